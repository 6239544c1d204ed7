"""What is done differently on a CPU, a GPU and a TPU. Nothing else here asks for the platform."""

from typing import NamedTuple

import jax


class Platform(NamedTuple):
    """The choices that measurement made.

    Attributes:
        inputs_apart: each x @ w is a product of its own, and what params add to it is added in the
            loop, so that the loop reads what the product wrote. XLA:CPU would cut a merged result
            into its pieces, a pass over [T, B, N] that costs more than merging saves; and pieces
            cut in the loop are not vectorised.
        transpose_before_product: write the transposed left side of a weight gradient to memory
            first. XLA:CPU multiplies it 1.1 to 1.25 times as fast then, copy included; a GPU
            transposes as it reads.
        unroll: steps per iteration of the loop.
    """

    inputs_apart: bool
    transpose_before_product: bool
    unroll: int


PLATFORMS = {
    "cpu": Platform(inputs_apart=True, transpose_before_product=True, unroll=1),
    "gpu": Platform(inputs_apart=False, transpose_before_product=False, unroll=1),
    "tpu": Platform(inputs_apart=False, transpose_before_product=False, unroll=1),
}


def current() -> Platform:
    """The platform that JAX computes on by default."""
    return PLATFORMS.get(jax.default_backend(), PLATFORMS["gpu"])
