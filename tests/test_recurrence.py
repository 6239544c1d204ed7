"""A cell over time: every unroll, over every cell, against single steps in a Python loop."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.nn import sigmoid
from jax.numpy import tanh

from seqlab.cells import CELLS, Cell, symbols, uniform, zeros_h
from seqlab.recurrence import plain_unroll, unroll

# What is tested is the program, not the optimiser of the compiler: this halves the time.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

# One entry while both names are the same function.
UNROLLS = list(dict.fromkeys([unroll, plain_unroll]))
every_unroll = pytest.mark.parametrize("unroll", UNROLLS, ids=lambda f: f.__name__)
every_cell = pytest.mark.parametrize("name", CELLS)

BATCH, TIME, HIDDEN = 3, 3, 3
LENGTHS = np.array([3, 2, 0])
PADDING = np.arange(TIME)[None, :] >= LENGTHS[:, None]  # [B, T]


class Drawn(NamedTuple):
    params: dict[str, jax.Array]
    carry: object
    xs: jax.Array  # [B, T, D]


def drawn(name, seed=0) -> Drawn:
    """Params, carry and inputs from N(0, 1) in float64: nothing is zero, biases included."""
    cell, rng = CELLS[name], np.random.default_rng(seed)
    input_dim = HIDDEN if name in ("mut1", "mut2") else 2

    def like(tree):
        return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), tree)

    return Drawn(
        params=like(jax.eval_shape(lambda: cell.init(jax.random.key(0), input_dim, HIDDEN))),
        carry=like(cell.initial_carry(BATCH, HIDDEN)),
        xs=jnp.asarray(rng.normal(size=(BATCH, TIME, input_dim))),
    )


def by_hand(step, params, carry, xs, lengths=None, reverse=False):
    """Row by row, real step by real step; past the length there is nothing but zeros in ys."""
    batch_size, time, _ = xs.shape
    carries, rows = [], []
    for b, length in enumerate([time] * batch_size if lengths is None else lengths):
        row_carry = jax.tree.map(lambda leaf, b=b: leaf[b : b + 1], carry)
        row = [jnp.zeros((1, HIDDEN), xs.dtype)] * time
        for t in reversed(range(length)) if reverse else range(length):
            row_carry, row[t] = step(params, row_carry, xs[b : b + 1, t])
        carries.append(row_carry)
        rows.append(jnp.stack(row, axis=1))
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *carries), jnp.concatenate(rows)


def scalar(carry, ys):
    """A number to which every element of the carry and of ys contributes with its own weight."""

    def weigh(leaf):
        weights = jnp.cos(jnp.arange(leaf.size, dtype=leaf.dtype)).reshape(leaf.shape)
        return (weights * jnp.sin(leaf)).sum()

    return weigh(ys) + sum(weigh(leaf) for leaf in jax.tree.leaves(carry))


@functools.cache
def compiled(unroll, name):
    """All four ways through time in one program."""

    @jit
    def run(params, carry, xs, lengths):
        go = functools.partial(unroll, CELLS[name], params, carry, xs)
        return {
            "forward": go(),
            "reverse": go(reverse=True),
            "forward, lengths": go(lengths=lengths),
            "reverse, lengths": go(lengths=lengths, reverse=True),
        }

    return run


@functools.cache
def compiled_gradients(unroll, name):
    """Gradients with respect to params, carry and xs, of all real steps and of all steps."""

    @jit
    def run(params, carry, xs, lengths):
        def value(*arguments, **how):
            return scalar(*unroll(CELLS[name], *arguments, **how))

        gradient = jax.value_and_grad(value, argnums=(0, 1, 2))
        return {
            "forward": gradient(params, carry, jnp.where(jnp.isnan(xs), 0.0, xs)),
            "reverse, lengths": gradient(params, carry, xs, lengths=lengths, reverse=True),
        }

    return run


def assert_close(ours, theirs, atol=1e-12):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=atol)


def assert_same_bits(ours, theirs):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


# Over every cell


@pytest.mark.usefixtures("float64")
@every_cell
@every_unroll
def test_unroll_is_single_steps(unroll, name):
    params, carry, xs = drawn(name)
    ours = compiled(unroll, name)(params, carry, xs, jnp.asarray(LENGTHS))
    step = CELLS[name].step
    assert_close(ours["forward"], by_hand(step, params, carry, xs))
    assert_close(ours["reverse"], by_hand(step, params, carry, xs, reverse=True))
    assert_close(ours["forward, lengths"], by_hand(step, params, carry, xs, LENGTHS))
    assert_close(ours["reverse, lengths"], by_hand(step, params, carry, xs, LENGTHS, reverse=True))


@pytest.mark.usefixtures("float64")
@every_cell
@every_unroll
def test_reverse_is_flip_forward_flip(unroll, name):
    params, carry, xs = drawn(name)
    lengths = jnp.asarray(LENGTHS)

    def flip_real(rows):
        """Only the real part of each row is turned round; the padding stays where it is."""
        rows = np.array(rows)
        for row, length in zip(rows, LENGTHS, strict=True):
            row[:length] = row[:length][::-1].copy()
        return rows

    run = compiled(unroll, name)
    ours = run(params, carry, xs, lengths)
    last, ys = run(params, carry, jnp.asarray(xs)[:, ::-1], lengths)["forward"]
    assert_close(ours["reverse"], (last, ys[:, ::-1]))
    last, ys = run(params, carry, jnp.asarray(flip_real(xs)), lengths)["forward, lengths"]
    assert_close(ours["reverse, lengths"], (last, flip_real(ys)))


@pytest.mark.usefixtures("float64")
@every_cell
@every_unroll
def test_what_the_padding_holds_has_no_effect(unroll, name):
    params, carry, xs = drawn(name)
    lengths = jnp.asarray(LENGTHS)
    run = compiled(unroll, name)
    clean = run(params, carry, xs, lengths)
    for rubbish in (np.nan, np.inf, 1e300):
        dirty = run(params, carry, jnp.where(PADDING[:, :, None], rubbish, xs), lengths)
        for way in ("forward, lengths", "reverse, lengths"):
            assert_same_bits(dirty[way], clean[way])
    for way in ("forward, lengths", "reverse, lengths"):
        assert (np.asarray(clean[way][1])[PADDING] == 0).all()


@pytest.mark.usefixtures("float64")
@every_cell
@every_unroll
def test_padded_steps_leave_any_carry_untouched_bit_for_bit(unroll, name):
    params, carry, xs = drawn(name)
    run = compiled(unroll, name)
    used, _ = run(params, carry, xs, jnp.asarray(LENGTHS))["forward, lengths"]
    for start in (carry, used, jax.tree.map(lambda leaf: -0.0 * leaf, carry)):
        after = run(params, start, xs, jnp.zeros(BATCH, int))
        for way in ("forward, lengths", "reverse, lengths"):
            assert_same_bits(after[way], (start, jnp.zeros((BATCH, TIME, HIDDEN))))


@pytest.mark.usefixtures("float64")
@every_cell
@every_unroll
def test_gradients_are_those_of_single_steps(unroll, name):
    params, carry, xs = drawn(name)
    step, lengths = CELLS[name].step, jnp.asarray(LENGTHS)
    xs = jnp.where(PADDING[:, :, None], 0.0, xs)
    clean = compiled_gradients(unroll, name)(params, carry, xs, lengths)

    def value(*arguments, **how):
        return scalar(*by_hand(step, *arguments, **how))

    gradient = jax.value_and_grad(value, argnums=(0, 1, 2))
    assert_close(clean["forward"], gradient(params, carry, xs))
    theirs = gradient(params, carry, xs, lengths=LENGTHS, reverse=True)
    assert_close(clean["reverse, lengths"], theirs)
    _, (_, _, of_xs) = clean["reverse, lengths"]
    assert (np.asarray(of_xs)[PADDING] == 0).all()
    assert (np.asarray(of_xs)[~PADDING] != 0).all()

    dirty = jnp.where(PADDING[:, :, None], np.nan, xs)
    assert_same_bits(compiled_gradients(unroll, name)(params, carry, dirty, lengths), clean)


@pytest.mark.usefixtures("float64")
@every_cell
@every_unroll
def test_no_output_depends_on_what_comes_later_and_every_output_on_what_came_before(unroll, name):
    params, carry, xs = drawn(name)
    lengths = jnp.full(BATCH, TIME)
    run = compiled(unroll, name)
    before = run(params, carry, xs, lengths)
    for s in range(TIME):
        after = run(params, carry, xs.at[1, s].add(0.1), lengths)
        for way, affected in {
            "forward": range(s, TIME),
            "forward, lengths": range(s, TIME),
            "reverse": range(s + 1),
            "reverse, lengths": range(s + 1),
        }.items():
            changed = (np.asarray(before[way][1]) != np.asarray(after[way][1])).any(axis=-1)
            expected = np.zeros((BATCH, TIME), bool)
            expected[1, list(affected)] = True
            np.testing.assert_array_equal(changed, expected)


@pytest.mark.usefixtures("float64")
@every_cell
@every_unroll
def test_jit_and_vmap_change_nothing(unroll, name):
    lengths = jnp.asarray(LENGTHS)
    each = [drawn(name, seed) for seed in range(2)]
    alone = [compiled(unroll, name)(*arguments, lengths)["forward, lengths"] for arguments in each]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)

    def go(arguments):
        return unroll(CELLS[name], *arguments, lengths=lengths)

    with jax.disable_jit():
        assert_close(go(each[0]), alone[0])
    assert_close(jit(jax.vmap(go))(stacked), jax.tree.map(lambda *a: jnp.stack(a), *alone))


@pytest.mark.usefixtures("float64")
@every_cell
@every_unroll
def test_the_carry_goes_on_from_one_unroll_to_the_next(unroll, name):
    params, carry, xs = drawn(name)
    more = drawn(name, seed=1).xs
    run = functools.partial(compiled(unroll, name), params, lengths=jnp.asarray(LENGTHS))
    middle, first = run(carry, xs)["forward"]
    last, second = run(middle, more)["forward"]
    whole = by_hand(CELLS[name].step, params, carry, jnp.concatenate([xs, more], axis=1))
    assert_close((last, jnp.concatenate([first, second], axis=1)), whole)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@every_cell
@every_unroll
def test_no_carry_is_the_initial_carry_in_the_dtype_of_the_params(unroll, name, dtype):
    cell = CELLS[name]

    def both():
        params = cell.init(jax.random.key(0), HIDDEN, HIDDEN)
        params = jax.tree.map(lambda leaf: leaf.astype(dtype), params)
        xs = jnp.ones((BATCH, TIME, HIDDEN), dtype)
        none, ys = unroll(cell, params, None, xs)
        return none, cell.initial_carry(BATCH, HIDDEN, dtype), ys

    none, explicit, ys = jax.eval_shape(both)
    assert none == explicit
    assert ys == jax.ShapeDtypeStruct((BATCH, TIME, HIDDEN), dtype)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize("name", ["rnn", "lstm", "lstm_fgr"])
@every_unroll
def test_no_carry_is_the_initial_carry(unroll, name, lengths):
    cell, (params, _, xs) = CELLS[name], drawn(name)
    zeros = cell.initial_carry(BATCH, HIDDEN)
    lengths = None if lengths is None else jnp.asarray(lengths)
    none = unroll(cell, params, None, xs, lengths=lengths)
    assert_same_bits(none, unroll(cell, params, zeros, xs, lengths=lengths))


# A cell of one's own


def minimal_step(params, h, x):
    p = symbols(params)
    u = sigmoid(x @ p.w_xu + h @ p.w_hu + p.b_u)
    h = u * h + (1 - u) * tanh(x @ p.w_xh)
    return h, h


minimal = Cell(uniform(w_xu="DH", w_hu="HH", b_u="H", w_xh="DH"), zeros_h, minimal_step)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("mine", [minimal, minimal_step], ids=["cell", "bare step"])
@every_unroll
def test_a_cell_or_a_bare_step_of_ones_own(unroll, mine):
    rng = np.random.default_rng(0)
    params = minimal.init(jax.random.key(0), 2, HIDDEN)
    carry = jnp.asarray(rng.normal(size=(BATCH, HIDDEN)))
    xs = jnp.asarray(rng.normal(size=(BATCH, TIME, 2)))
    for how in ({}, {"reverse": True}):
        ours = unroll(mine, params, carry, xs, lengths=jnp.asarray(LENGTHS), **how)
        assert_close(ours, by_hand(minimal_step, params, carry, xs, LENGTHS, **how))
        assert_close(
            unroll(mine, params, carry, xs, **how),
            by_hand(minimal_step, params, carry, xs, **how),
        )


@every_unroll
def test_params_may_be_any_pytree_and_the_carry_may_count(unroll):
    """A leaky sum with a learnt leak, one number, and a count of the steps that were taken."""

    def step(params, carry, x):
        total, steps = carry
        total = params["leak"] * total + x
        return (total, steps + 1), total

    def initial_carry(batch_size, hidden_dim):
        return jnp.zeros((batch_size, hidden_dim)), jnp.zeros((batch_size, 1), jnp.int32)

    counting = Cell(
        lambda key, input_dim, hidden_dim: {"leak": jnp.float32(0.5), "unused": jnp.zeros(2)},
        initial_carry,
        step,
    )
    xs = jnp.ones((2, 3, 2))
    params = counting.init(jax.random.key(0), 2, 2)
    (total, steps), ys = unroll(counting, params, None, xs, lengths=jnp.array([3, 2]))
    np.testing.assert_array_equal(total[:, 0], [1.75, 1.5])
    np.testing.assert_array_equal(ys[:, :, 1], [[1, 1.5, 1.75], [1, 1.5, 0]])
    np.testing.assert_array_equal(steps, [[3], [2]])
    assert steps.dtype == jnp.int32


# What cannot be


@every_unroll
def test_a_bare_step_needs_a_carry(unroll):
    params = minimal.init(jax.random.key(0), 2, HIDDEN)
    with pytest.raises(ValueError, match="a bare step function has no initial carry"):
        unroll(minimal_step, params, None, jnp.zeros((BATCH, TIME, 2)))


@every_unroll
def test_a_width_that_is_not_clear_needs_a_carry(unroll):
    odd = Cell(lambda *_: {}, zeros_h, minimal_step)
    xs = jnp.zeros((BATCH, TIME, 2))
    for params in ({"w": jnp.zeros((2, 3)), "v": jnp.zeros((3, 4))}, {"s": jnp.zeros(())}, {}):
        with pytest.raises(ValueError, match="H is not clear from params"):
            unroll(odd, params, None, xs)


@pytest.mark.parametrize("shape", [(TIME, 2), (2,), (BATCH, TIME, 2, 1)])
@every_unroll
def test_inputs_of_the_wrong_rank(unroll, shape):
    params = minimal.init(jax.random.key(0), 2, HIDDEN)
    with pytest.raises(ValueError, match=r"xs must be \[B, T, D\]") as error:
        unroll(minimal, params, None, jnp.zeros(shape))
    assert str(shape) in str(error.value)


@pytest.mark.parametrize("shape", [(), (BATCH + 1,), (1,), (BATCH, 1), (BATCH, TIME)])
@every_unroll
def test_lengths_of_the_wrong_shape(unroll, shape):
    params = minimal.init(jax.random.key(0), 2, HIDDEN)
    with pytest.raises(ValueError, match=rf"lengths must be \[B\] = \({BATCH},\)") as error:
        unroll(minimal, params, None, jnp.zeros((BATCH, TIME, 2)), lengths=jnp.ones(shape, int))
    assert str(shape) in str(error.value)
