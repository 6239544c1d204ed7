"""How many units a parameter budget buys. Sizes are asked of JAX, never computed by formula."""

import math
from collections.abc import Callable

import flax.linen as nn
import jax

from seqlab.errors import InputError


def count_params(model: nn.Module, *inputs: jax.ShapeDtypeStruct) -> int:
    """All parameters of a network, embedding, head and biases included; nothing is allocated."""
    # The key is made inside, so that counting takes no device: the launcher counts, workers train.
    variables = jax.eval_shape(lambda *xs: model.init(jax.random.key(0), *xs), *inputs)
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables))


def units_for_budget(params_with: Callable[[int], int], budget: int) -> int:
    """The largest number of units n with params_with(n) ≤ budget, by binary search.

    Args:
        params_with: the parameters of the network with n units; grows with n.
        budget: how many parameters there may be.

    Raises:
        InputError: not even one unit fits.
    """
    smallest = params_with(1)
    if smallest > budget:
        raise InputError(
            f"a budget of {budget:,} parameters is too small: one unit takes {smallest:,}"
        )
    fits, too_many = 1, 2
    while params_with(too_many) <= budget:
        fits, too_many = too_many, 2 * too_many
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if params_with(middle) <= budget:
            fits = middle
        else:
            too_many = middle
    return fits
