"""What a recurrent cell is, and the helpers that its equation is written with.

Shapes, here and everywhere in seqlab:

    B  batch
    T  time
    D  input width
    H  hidden width, in units

Your own cell is its equation and one `Cell`:

    from jax.nn import sigmoid
    from jax.numpy import tanh

    from seqlab.cells import Cell, symbols, uniform, zeros_h

    def step(params, h, x):
        p = symbols(params)
        u = sigmoid(x @ p.w_xu + h @ p.w_hu + p.b_u)
        h = u * h + (1 - u) * tanh(x @ p.w_xh)
        return h, h

    mine = Cell(
        init=uniform(w_xu="DH", w_hu="HH", b_u="H", w_xh="DH"),
        initial_carry=zeros_h,
        step=step,
    )
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

Params: TypeAlias = dict[str, Array]  # one array per symbol of the equation
Init: TypeAlias = Callable[[PRNGKeyArray, int, int], Params]
BD: TypeAlias = Float[Array, "B D"]
BH: TypeAlias = Float[Array, "B H"]


class Cell(NamedTuple):
    """A recurrent cell: pure functions that know nothing of time.

    Attributes:
        init: (key, input_dim, hidden_dim) -> params, a flat dict keyed by the equation's symbols.
        initial_carry: (batch_size, hidden_dim, dtype=float) -> carry, what the first step gets.
        step: (params, carry, x [B, D]) -> (carry, y [B, H]), the equation and nothing else.
    """

    init: Init
    initial_carry: Callable[..., Any]
    step: Callable[[Params, Any, Array], tuple[Any, Array]]


class LSTMCarry(NamedTuple):
    """What an LSTM hands to its next step: the memory c [B, H] and the output h [B, H]."""

    c: BH
    h: BH


def symbols(params: Params) -> SimpleNamespace:
    """Params as the paper writes them: `p.w_xh` for `params["w_xh"]`, vectors as rows.

    A vector [H] becomes the row [1, H], which broadcasts over a batch [B, H] without implicit rank
    promotion.
    """
    return SimpleNamespace(
        **{name: value[None] if value.ndim == 1 else value for name, value in params.items()}
    )


def uniform(**shapes: str) -> Init:
    """An `init` from each symbol's shape: `uniform(w_xh="DH", w_hh="HH", b_h="H")`.

    Weights and peepholes are drawn from U[-1/√H, 1/√H]. Biases, the symbols that begin with `b_`,
    are 0. The dtype is JAX's default float.

    Raises:
        ValueError: a shape has letters other than D and H.
    """
    for name, letters in shapes.items():
        if not letters or set(letters) - {"D", "H"}:
            raise ValueError(f"{name}={letters!r}: a shape is written with the letters D and H.")

    def init(key: PRNGKeyArray, input_dim: int, hidden_dim: int) -> Params:
        size = {"D": input_dim, "H": hidden_dim}
        bound = hidden_dim**-0.5
        keys = dict(zip(shapes, jax.random.split(key, len(shapes)), strict=True))
        params = {}
        for name, letters in shapes.items():
            shape = tuple(size[letter] for letter in letters)
            if name.startswith("b_"):
                params[name] = jnp.zeros(shape)
            else:
                params[name] = jax.random.uniform(keys[name], shape, minval=-bound, maxval=bound)
        return params

    return init


def square_only(cell: str, init: Init) -> Init:
    """`init`, for an equation that uses x without a weight matrix, so that D must equal H.

    Raises:
        ValueError: from the returned `init`, when D ≠ H.
    """

    def init_square(key: PRNGKeyArray, input_dim: int, hidden_dim: int) -> Params:
        if input_dim != hidden_dim:
            raise ValueError(
                f"{cell} needs input_dim == hidden_dim, got {input_dim} and {hidden_dim}: "
                "x enters its equation raw, with no matrix before it."
            )
        return init(key, input_dim, hidden_dim)

    return init_square


def takes(cell: Cell, input_dim: int, hidden_dim: int) -> bool:
    """Whether the cell accepts these sizes; one that uses x without a matrix needs D = H."""
    try:
        jax.eval_shape(lambda key: cell.init(key, input_dim, hidden_dim), jax.random.key(0))
    except ValueError:
        return False
    return True


def zeros_h(batch_size: int, hidden_dim: int, dtype: DTypeLike = float) -> BH:
    """h = 0."""
    return jnp.zeros((batch_size, hidden_dim), dtype)


def zeros_ch(batch_size: int, hidden_dim: int, dtype: DTypeLike = float) -> LSTMCarry:
    """c = 0, h = 0."""
    zeros = jnp.zeros((batch_size, hidden_dim), dtype)
    return LSTMCarry(c=zeros, h=zeros)
