"""Drawings, their losses and how they are drawn, against SciPy and plain loops."""

import xml.etree.ElementTree as ET

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from seqlab import buckets, sketch_losses, sketches, train_buckets, train_sketches
from seqlab.cells import CELLS
from seqlab.data.examples import Examples, Ragged
from seqlab.data.strokes import StrokeDataset
from seqlab.models import mixture
from seqlab.models.rnn import bidirectional_stack, stack
from seqlab.models.sketch import Posterior, Sketcher, SketchVAE, Unconditional, first_steps
from seqlab.optim import Settings
from seqlab.sketch_losses import SketchLoss

COMPONENTS, UNITS, LATENTS = 3, 4, 2


def invented(lengths: list[int], seed: int) -> Ragged:
    rng = np.random.default_rng(seed)
    parts = []
    for n in lengths:
        pens = rng.integers(2, size=n)
        pens[-1] = 1
        parts.append(np.column_stack([rng.integers(-30, 30, (n, 2)) / 20, pens]))
    return Ragged(np.concatenate(parts).astype(np.float32), np.array(lengths, np.int32))


def dataset() -> StrokeDataset:
    splits = [invented([3, 5, 2, 4], 0), invented([2, 3], 1), invented([4, 3, 5], 2)]
    return StrokeDataset(*(Examples(r, r) for r in splits), scale=20.0)


def vae(cell: str = "gru") -> SketchVAE:
    encoder = bidirectional_stack(CELLS[cell], UNITS - 1, 1)
    sketcher = Sketcher(stack(CELLS[cell], UNITS, 1), UNITS, COMPONENTS)
    return SketchVAE(encoder, UNITS - 1, sketcher, LATENTS)


def unconditional(cell: str = "gru") -> Unconditional:
    return Unconditional(Sketcher(stack(CELLS[cell], UNITS, 1), UNITS, COMPONENTS))


def params_of(model, batch):
    shapes = jax.eval_shape(lambda: train_sketches.init_params(model, jax.random.key(0), batch))
    rng = np.random.default_rng(5)
    return jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape), p.dtype), shapes)


# What is trained on


def test_every_drawing_is_itself_with_an_end_behind_it():
    given, found = dataset(), sketches.drawings(dataset())
    assert found.quantum == pytest.approx(1 / 20)
    assert found.longest == 5
    batch = buckets.rectangle(found.test)
    starts = np.cumsum(given.test.inputs.lengths) - given.test.inputs.lengths
    for row, (start, length) in enumerate(zip(starts, given.test.inputs.lengths, strict=True)):
        strokes = given.test.inputs.values[start : start + length]
        expected = [[dx, dy, 1 - pen, pen, 0] for dx, dy, pen in strokes]
        np.testing.assert_array_equal(batch.inputs[row, :length], expected)
        np.testing.assert_array_equal(
            batch.targets[row, : length + 1], [*expected, [0, 0, 0, 0, 1]]
        )
        np.testing.assert_array_equal(batch.scored[row], np.arange(6) <= length)


def test_one_gaussian_and_the_frequencies_of_the_pens():
    """The noise on the grid is no part of the sum: its mean and its square are known."""
    found = sketches.drawings(dataset())
    train = found.train.inputs.values.astype(np.float64)
    test = found.test.inputs.values.astype(np.float64)
    q = found.quantum
    covariance = np.cov(train[:, :2].T, bias=True) + q**2 / 12 * np.eye(2)
    gaussian = stats.multivariate_normal(train[:, :2].mean(axis=0), covariance)
    rng, total = np.random.default_rng(0), 0.0
    for dx, dy in test[:, :2]:
        noise = rng.uniform(-q / 2, q / 2, (20_000, 2))
        total -= gaussian.logpdf(np.array([dx, dy]) + np.concatenate([noise, -noise])).mean()
    pens = {"down": train[:, 2].sum(), "up": train[:, 3].sum(), "end": 4}
    everything = sum(pens.values())
    total -= test[:, 2].sum() * np.log(pens["down"] / everything)
    total -= test[:, 3].sum() * np.log(pens["up"] / everything)
    total -= 3 * np.log(pens["end"] / everything)
    told = sketches.single_gaussian(found)
    assert told["drawing"] == pytest.approx(total / 3, rel=1e-4)
    assert told["point"] == pytest.approx(total / 12, rel=1e-4)


# What it costs


def test_offsets_to_the_last_step_pens_to_the_end_and_beyond():
    batch = buckets.rectangle(sketches.drawings(dataset()).test)
    rng = np.random.default_rng(3)
    said = rng.normal(size=(*batch.scored.shape, mixture.outputs(COMPONENTS)))
    costs = sketch_losses.terms(jnp.asarray(said, jnp.float32), batch.targets, batch.scored)
    for row, length in enumerate(batch.lengths.tolist()):
        offsets = pens = padding = 0.0
        for step in range(said.shape[1]):
            numbers = said[row, step]
            if step < length:
                weights = np.exp(numbers[: 6 * COMPONENTS : 6])
                density = 0.0
                for m, weight in enumerate(weights / weights.sum()):
                    _, mx, my, lx, ly, r = numbers[6 * m : 6 * m + 6]
                    sx, sy, rho = np.exp(lx), np.exp(ly), np.tanh(r)
                    covariance = [[sx * sx, rho * sx * sy], [rho * sx * sy, sy * sy]]
                    at = np.asarray(batch.targets[row, step, :2], np.float64)
                    density += weight * stats.multivariate_normal.pdf(at, [mx, my], covariance)
                offsets -= np.log(density)
            pen = int(batch.targets[row, step, 2:].argmax()) if step <= length else 2
            shares = np.exp(numbers[6 * COMPONENTS :])
            nll = -np.log(shares[pen] / shares.sum())
            if step <= length:
                pens += nll
            else:
                padding += nll
        np.testing.assert_allclose(costs.offsets[row], offsets, rtol=1e-4)
        np.testing.assert_allclose(costs.pens[row], pens, rtol=1e-5)
        np.testing.assert_allclose(costs.padding[row], padding, rtol=1e-5, atol=1e-6)


def test_the_divergence_is_that_of_a_sum_over_draws():
    rng = np.random.default_rng(4)
    mean, log_variance = rng.normal(size=(2, 2, 3))
    found = sketch_losses.divergence(
        Posterior(jnp.asarray(mean, jnp.float32), jnp.asarray(log_variance, jnp.float32))
    )
    deviation = np.exp(log_variance / 2)
    z = mean + deviation * rng.normal(size=(200_000, 2, 3))
    kl = stats.norm.logpdf(z, mean, deviation) - stats.norm.logpdf(z)
    np.testing.assert_allclose(found, kl.sum(axis=2).mean(axis=0), rtol=0.02)
    at_prior = Posterior(jnp.zeros((1, 3)), jnp.zeros((1, 3)))
    assert float(sketch_losses.divergence(at_prior)[0]) == 0


def test_the_weight_of_the_posterior_grows_to_one():
    loss = SketchLoss(kl_begin=0.2, kl_rate=0.9)
    eta, expected = 0.2, []
    for _ in range(30):
        expected.append(eta)
        eta = 1 - 0.9 * (1 - eta)
    found = [float(sketch_losses.annealed(loss, step)) for step in range(30)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("kl_min", [0.0, 100.0])
def test_a_step_of_training_is_the_gradient_of_the_papers_loss(kl_min):
    """Without noise, scaling and clipping: SGD moves the weights by the gradient of L, by hand."""
    drawings = sketches.drawings(dataset())
    model, whole = vae(), buckets.rectangle(drawings.train)
    loss = SketchLoss(0.0, kl_weight=0.5, kl_min=kl_min, kl_begin=0.3, kl_rate=0.5)
    program = train_sketches.Program(model, "sgd", loss, quantum=0.0, longest=5)
    settings = Settings(0.01, 1e9, 1.0, None, 0)
    params = params_of(model, whole)
    # Log σ² so low that z is μ: what noise was drawn has no part.
    params["params"]["log_variance"] = {"kernel": jnp.zeros((6, 2)), "bias": jnp.full(2, -60.0)}
    rows = jnp.array([0, 2, buckets.ABSENT, 1], jnp.int32)
    state = train_sketches.init_state(program, settings, whole)
    state = train_buckets.TrainState(jnp.array(2, jnp.int32), params, state.opt_state)
    step = jax.jit(train_sketches.train_step, static_argnums=0)
    after, value = step(program, settings, state, buckets.take(whole, rows))

    chosen = jax.tree.map(lambda leaf: leaf[jnp.array([0, 2, 1])], whole)
    given = jnp.concatenate([first_steps(3)[:, None], chosen.targets[:, :-1]], axis=1)

    @jax.jit
    @jax.value_and_grad
    def by_hand(params):
        said, posterior = model.apply(  # pyright: ignore
            params, given, chosen.inputs, chosen.lengths, jnp.zeros((3, LATENTS))
        )
        costs = sketch_losses.terms(said, chosen.targets, chosen.scored)
        total = sum(part.sum() for part in costs)
        kl = sketch_losses.divergence(posterior).sum() / LATENTS
        eta = 1 - 0.7 * 0.5**2
        return total / 3 / 5 + 0.5 * eta * jnp.maximum(kl / 3, kl_min)

    expected, grads = by_hand(params)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    moved = jax.tree.map(lambda new, old: (old - new) / 0.01, after.params, params)
    for found, wanted in zip(jax.tree.leaves(moved), jax.tree.leaves(grads), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=2e-2, atol=2e-3)


def test_noise_is_within_half_a_quantum_and_of_steps_alone():
    whole = buckets.rectangle(sketches.drawings(dataset()).train)
    found = train_sketches.dithered(whole, jax.random.key(0), 0.05, scaling=0.0)
    moved = np.abs(np.asarray(found.targets - whole.targets))
    drawn = np.arange(6) < np.asarray(whole.lengths)[:, None]
    assert 0.02 < moved[..., :2][drawn].max() <= 0.025
    assert moved[..., :2][~drawn].max() == 0 == moved[..., 2:].max()
    inside = np.asarray(found.targets)[:, :5] * drawn[:, :5, None]
    np.testing.assert_array_equal(found.inputs, inside)
    scaled = train_sketches.dithered(whole, jax.random.key(1), 0.0, scaling=0.15)
    with np.errstate(invalid="ignore"):
        ratios = np.asarray(scaled.targets)[..., :2] / np.asarray(whole.targets)[..., :2]
    for row in range(4):
        for axis in range(2):
            known = ratios[row, :, axis][np.isfinite(ratios[row, :, axis])]
            np.testing.assert_allclose(known, known[0], rtol=1e-5)
            assert 0.85 <= known[0] <= 1.15
    assert len(np.unique(ratios[np.isfinite(ratios)].round(4))) == 8


# What is drawn


@pytest.mark.parametrize(("kind", "cell"), [(unconditional, "lstm"), (vae, "lstm"), (vae, "mut1")])
def test_what_is_drawn_step_by_step_is_what_is_said_at_once(kind, cell):
    model = kind(cell)
    batch = buckets.rectangle(sketches.drawings(dataset()).test)
    params = params_of(model, batch)
    rng = np.random.default_rng(6)
    z = jnp.asarray(rng.normal(size=(3, LATENTS if kind is vae else 0)), jnp.float32)
    drawn = sketches.draw(model, params, jax.random.key(0), z, 0.0, 6)
    given = jnp.concatenate([first_steps(3)[:, None], drawn[:, :-1]], axis=1)
    inner = model.sketcher
    of_sketcher = {"params": params["params"]["sketcher"]}
    if kind is vae:
        carry = model.apply(params, z, method="begin")
        _, said = inner.apply(of_sketcher, given, carry, z)  # pyright: ignore
    else:
        _, said = inner.apply(of_sketcher, given)  # pyright: ignore
    density = mixture.split(said)
    best = np.asarray(density.weights).argmax(axis=-1)
    pens = np.asarray(density.pens).argmax(axis=-1)
    for row in range(3):
        ended = False
        for step in range(6):
            ended |= pens[row, step] == 2
            mean = density.means[row, step, best[row, step]]
            expected = [0, 0, 0, 0, 1] if ended else [*mean, *np.eye(3)[pens[row, step]]]
            np.testing.assert_allclose(drawn[row, step], expected, rtol=1e-3, atol=1e-3)


def test_a_drawing_ends_where_its_end_is_said():
    steps = np.zeros((2, 4, 5), np.float32)
    steps[0] = [[1, 2, 1, 0, 0], [3, 4, 0, 1, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, 1]]
    steps[1] = [[5, 6, 1, 0, 0]] * 4
    assert sketches.strokes(jnp.asarray(steps)) == [
        [[1.0, 2.0, 0], [3.0, 4.0, 1]],
        [[5.0, 6.0, 0]] * 4,
    ]


def test_lines_are_what_the_pen_leaves():
    """The way to the first place, and to the first after a lift, is made in the air."""
    drawing = [[1, 1, 0], [2, 0, 1], [0, 3, 0], [-1, 0, 0], [0, 1, 1]]
    assert sketches.lines(drawing) == [[(1, 1), (3, 1)], [(3, 4), (2, 4), (2, 5)]]
    assert sketches.lines([]) == []


def test_a_picture_has_every_line_in_its_cell(tmp_path):
    drawings = [[[1, 1, 0], [2, 0, 1], [0, 3, 0], [-1, 0, 1]], [], [[7, 7, 1]]]
    path = tmp_path / "drawn.svg"
    sketches.write_svg(path, drawings)
    paths = [node.attrib["d"] for node in ET.parse(path).getroot()]
    assert len(paths) == 3  # two of the first, a dot of the last
    for d, (low, high) in zip(paths, [(0, 120), (0, 120), (240, 360)], strict=True):
        points = [tuple(map(float, p.split())) for p in d.strip("Mz ").split(" L")]
        assert all(low + 10 <= x <= high - 10 and 10 <= y <= 110 for x, y in points), d
    first = [tuple(map(float, p.split())) for p in paths[0].strip("M").split(" L")]
    assert first[1][0] - first[0][0] == pytest.approx(2 / 3 * 100, abs=0.02)  # of 3 high
    with pytest.raises(FileExistsError):
        sketches.write_svg(path, drawings)
