"""Networks that look: the eye against convolutions, and what captions and answers depend on."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqlab.cells import CELLS
from seqlab.models import vision
from seqlab.models.decoders import DECODERS
from seqlab.models.seq2seq import ConditionedDecoder
from seqlab.models.vision import Answerer, Captioner, Eye

RNG = np.random.default_rng(0)
PICTURES = RNG.integers(256, size=(2, 8, 12, 3), dtype=np.uint8)
WORDS = RNG.integers(1, 9, size=(2, 5)).astype(np.int32)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", [(8, 8), (9, 7)])
def test_a_product_with_patches_is_the_convolution(shape, stride):
    images = jax.random.normal(jax.random.key(0), (2, *shape, 3))
    layer = nn.Conv(4, (3, 3), strides=stride, use_bias=False)
    params = layer.init(jax.random.key(1), images)
    kernel = params["params"]["kernel"].reshape(27, 4)
    np.testing.assert_allclose(
        vision.patches(images, stride) @ kernel, layer.apply(params, images), atol=1e-5
    )


@pytest.mark.parametrize("shape", [(16, 16), (13, 50)])
def test_the_eye_is_convolutions_and_relu(shape):
    eye = Eye((4, 6), (5,))
    images = jnp.asarray(RNG.integers(256, size=(2, *shape, 3), dtype=np.uint8))
    params = eye.init(jax.random.key(0), images)
    seen = images.astype(jnp.float32) / 127.5 - 1
    for number, (channels, stride) in enumerate([(4, 2), (6, 2), (5, 1)]):
        dense = params["params"][f"Dense_{number}"]
        kernel = dense["kernel"].reshape(3, 3, -1, channels)
        seen = jax.lax.conv_general_dilated(
            seen, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        seen = jnp.maximum(seen + dense["bias"][None, None, None], 0)
    deviation = jnp.sqrt(seen.var(axis=-1, keepdims=True) + 1e-6)
    normalised = (seen - seen.mean(axis=-1, keepdims=True)) / deviation
    np.testing.assert_allclose(eye.apply(params, images), normalised, atol=1e-4)


def decoder(name: str):
    return DECODERS[name](CELLS["gru"], 6, 1)


@pytest.mark.parametrize("name", ["no_attention", "show_attend_tell", "luong_general"])
def test_a_caption_is_of_its_picture_and_of_the_words_before(name):
    model = Captioner(Eye((4, 6), ()), ConditionedDecoder(decoder(name), 9, 6))
    params = jax.jit(model.init)(jax.random.key(0), PICTURES, WORDS)
    apply = jax.jit(model.apply)
    logits, weights = apply(params, PICTURES, WORDS)
    other = PICTURES.copy()
    other[0] = 255 - other[0]
    changed, _ = apply(params, other, WORDS)
    assert (np.asarray(changed[0]) != np.asarray(logits[0])).any(axis=-1).all()
    np.testing.assert_array_equal(changed[1], logits[1])
    words = WORDS.copy()
    words[:, 3] = 0
    changed, _ = apply(params, PICTURES, words)
    np.testing.assert_array_equal(changed[:, :3], logits[:, :3])
    assert (np.asarray(changed[:, 3]) != np.asarray(logits[:, 3])).any()
    if name == "no_attention":
        assert weights is None
    else:
        assert weights.shape == (2, 5, 2 * 3)
        np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)


@pytest.mark.parametrize("name", ["no_attention", "show_attend_tell", "luong_general"])
def test_word_by_word_it_is_the_same_as_at_once(name):
    model = Captioner(Eye((4, 6), ()), ConditionedDecoder(decoder(name), 9, 6))
    params = jax.jit(model.init)(jax.random.key(0), PICTURES, WORDS)
    at_once, _ = jax.jit(model.apply)(params, PICTURES, WORDS)
    memory, carry = model.apply(params, jnp.asarray(PICTURES), method="encode")
    for place in range(WORDS.shape[1]):
        carry, logits, _ = model.apply(
            params, memory, carry, jnp.asarray(WORDS[:, place]), method="step"
        )
        np.testing.assert_allclose(logits, at_once[:, place], atol=1e-5)


@pytest.mark.parametrize("name", ["no_attention", "show_attend_tell", "luong_general"])
def test_an_answer_is_of_picture_and_question_and_not_of_padding(name):
    model = Answerer(Eye((4, 6), ()), decoder(name), 9, 6, 4)
    lengths = jnp.array([5, 3], jnp.int32)
    params = jax.jit(model.init)(jax.random.key(0), PICTURES, WORDS, lengths)
    apply = jax.jit(model.apply)
    logits, _ = apply(params, PICTURES, WORDS, lengths)
    assert logits.shape == (2, 4)
    for place in range(5):
        words = WORDS.copy()
        words[1, place] = 0
        differs = (np.asarray(apply(params, PICTURES, words, lengths)[0]) != logits).any(axis=-1)
        assert differs.tolist() == [False, place < 3]
    other = PICTURES.copy()
    other[0] = 255 - other[0]
    differs = (np.asarray(apply(params, other, WORDS, lengths)[0]) != logits).any(axis=-1)
    assert differs.tolist() == [True, False]
