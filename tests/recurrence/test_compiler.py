"""The recurrence compiler: the numbers of the plain scan, by a program that computes less."""

import functools
import math
import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.nn import sigmoid, softplus
from jax.numpy import tanh
from random_cells import HIDDEN, random_cell

from seqlab.cells import CELLS
from seqlab.recurrence import plain_unroll, unroll
from seqlab.recurrence.program import loops

# What is tested is the program, not the optimiser of the compiler: this halves the time.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

BATCH, TIME = 2, 4
LENGTHS = np.array([4, 2])
SAVES = ("products", "carries", "segments")


class Case(NamedTuple):
    """A recurrence to run: a cell or bare step, and what it runs on."""

    cell: object
    params: object
    carry: object
    xs: jax.Array
    equation: str = ""


def normal(rng, *shape):
    return jnp.asarray(rng.normal(size=shape))


def random_case(seed, batch=BATCH, time=TIME) -> Case:
    mine = random_cell(seed)
    xs = normal(np.random.default_rng(seed), batch, time, mine.input_dim)
    return Case(mine.step, mine.params, mine.carry(batch), xs, mine.describe())


def named_case(name, batch=BATCH, time=TIME, input_dim=HIDDEN, hidden_dim=HIDDEN) -> Case:
    """Nothing that is drawn is zero, biases included."""
    cell, rng = CELLS[name], np.random.default_rng(0)

    def like(tree):
        return jax.tree.map(lambda leaf: normal(rng, *leaf.shape), tree)

    return Case(
        cell,
        like(jax.eval_shape(lambda: cell.init(jax.random.key(0), input_dim, hidden_dim))),
        like(cell.initial_carry(batch, hidden_dim)),
        normal(rng, batch, time, input_dim),
        name,
    )


def cases(*named_or_seeds):
    return pytest.mark.parametrize("known_as", named_or_seeds)


def case_of(known_as, **sizes) -> Case:
    make = random_case if isinstance(known_as, int) else named_case
    return make(known_as, **sizes)


def scalar(carry, ys):
    """A number to which every element of the carry and of ys contributes with its own weight."""

    def weigh(leaf):
        weights = jnp.cos(jnp.arange(leaf.size, dtype=leaf.dtype)).reshape(leaf.shape)
        return (weights * jnp.sin(leaf)).sum()

    leaves = [a for a in jax.tree.leaves((carry, ys)) if jnp.issubdtype(a.dtype, jnp.floating)]
    return sum(map(weigh, leaves))


def everything(run):
    """run(params, carry, xs) with its gradients with respect to all three."""

    def value(params, carry, xs):
        out = run(params, carry, xs)
        return scalar(*out), out

    def of(params, carry, xs):
        (_, out), gradients = jax.value_and_grad(value, (0, 1, 2), has_aux=True, allow_int=True)(
            params, carry, xs
        )
        return out, gradients

    return of


def step_by_step(case, params, carry, xs, lengths=None, reverse=False):
    """The oracle: a Python loop, an operation at a time."""
    step = getattr(case.cell, "step", case.cell)
    ys = {}
    for t in range(xs.shape[1])[:: -1 if reverse else 1]:
        new, y = step(params, carry, xs[:, t])
        if lengths is not None:
            real = (t < lengths)[:, None]
            new = jax.tree.map(lambda a, b, real=real: jnp.where(real, a, b), new, carry)
            y = jnp.where(real, y, jnp.zeros_like(y))
        carry, ys[t] = new, y
    return carry, jnp.stack([ys[t] for t in sorted(ys)], axis=1)


def assert_close(ours, theirs, message="", atol=1e-10):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs), message
    theirs = jax.tree.leaves(theirs)
    for (path, a), b in zip(jax.tree.leaves_with_path(ours), theirs, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype), (path, message)
        if a.dtype != jax.dtypes.float0:
            where = f"{jax.tree_util.keystr(path)}\n{message}"
            np.testing.assert_allclose(a, b, rtol=0, atol=atol, err_msg=where)


def assert_same_bits(ours, theirs):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def on(case, unroll, lengths=None, **how):
    """The unroll of a case as a function of its arrays."""

    def run(params, carry, xs):
        its = None if lengths is None else jnp.asarray(lengths)  # of 64 bits where floats are
        return unroll(case.cell, params, carry, xs, lengths=its, **how)

    return run


def assert_as_plain(case, transform=lambda run: run, **how):
    """Values and gradients; `transform` is applied to the unroll of either."""
    arguments = case.params, case.carry, case.xs
    ours = jit(everything(transform(on(case, unroll, **how))))(*arguments)
    theirs = jit(everything(transform(on(case, plain_unroll, **how))))(*arguments)
    assert_close(ours, theirs, case.equation)


# Values and gradients


def assert_random_cell(seed):
    case = random_case(seed)
    how = {"lengths": LENGTHS if seed // 2 % 2 else None, "reverse": bool(seed // 4 % 2)}
    arguments = case.params, case.carry, case.xs
    theirs = everything(lambda *given: step_by_step(case, *given, **how))(*arguments)
    assert_close(jit(everything(on(case, unroll, **how)))(*arguments), theirs, case.equation)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("seed", range(20))
def test_random_cells(seed):
    assert_random_cell(seed)


@pytest.mark.slow
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("seed", range(20, 120))
def test_more_random_cells(seed):
    assert_random_cell(seed)


@pytest.mark.usefixtures("float64")
@cases("gru", "lstm_peephole", 5)
def test_what_is_saved_changes_no_number(known_as):
    case = case_of(known_as, time=7)  # seven steps do not make equal segments
    how = {"lengths": np.array([7, 4]), "reverse": known_as == 5}
    arguments = case.params, case.carry, case.xs
    theirs = everything(lambda *given: step_by_step(case, *given, **how))(*arguments)

    @jit
    def run(*given):
        return {save: everything(on(case, unroll, save=save, **how))(*given) for save in SAVES}

    for save, ours in run(*arguments).items():
        assert_close(ours, theirs, f"{save}: {case.equation}")


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("save", SAVES)
@pytest.mark.parametrize("time", [0, 1])
def test_no_step_and_one_step(save, time):
    case = named_case("gru", batch=1, time=time, input_dim=1, hidden_dim=1)
    arguments = case.params, case.carry, case.xs
    theirs = everything(on(case, plain_unroll))(*arguments)
    assert_close(everything(on(case, unroll, save=save))(*arguments), theirs)


# Steps that are written unlike any in CELLS

W = jnp.asarray(np.random.default_rng(1).normal(size=(HIDDEN, HIDDEN)), jnp.float32)


def biases_everywhere(p, h, x):
    b = p["b"][None]
    h = tanh(x @ p["w"] + h @ p["w"] + b) * softplus(b) + b * sigmoid(h + b)
    return h, h + b


def peepholes_everywhere(p, h, x):
    v = p["v"][None]
    c = v * h + tanh(h @ p["w"] + v * h + v * x)
    return tanh(c), v * c


def a_weight_of_two_products_in_a_row(p, h, x):
    a = sigmoid(h @ p["w"] + x)
    h = tanh((a * h) @ p["w"] + a @ p["w"].T)
    return h, a


def one_matrix_for_x_and_h(p, h, x):
    h = tanh(jnp.concatenate([x, h], axis=-1) @ jnp.concatenate([p["w"], p["u"]]) + p["b"][None])
    return h, h


def fast_weights(p, carry, x):
    h, memory = carry["h"], carry["memory"]
    memory = 0.9 * memory + 0.1 * h[:, :, None] * x[:, None, :]
    h = tanh(h @ p["w"] + jnp.einsum("bij,bj->bi", memory, x))
    return {"h": h, "memory": memory}, h


def counts_its_steps(p, carry, x):
    h, steps = carry["h"], carry["steps"]
    h = tanh(h @ p["w"] + x / (1 + steps).astype(x.dtype))
    return {"h": h, "steps": steps + 1}, h


def drops_out(p, carry, x):
    key, now = jax.random.split(carry["key"])
    keep = jax.random.bernoulli(now, 0.5, x.shape)
    h = tanh(jnp.where(keep, carry["h"], 0 * x) @ p["w"] + x)
    return {"h": h, "key": key}, h


def loops_within(p, h, x):
    h = lax.fori_loop(0, 3, lambda _, h: tanh(h @ p["w"] + x), h)
    return h, h


def decides(p, h, x):
    h = lax.cond(h.sum() > 0, lambda h: tanh(h @ p["w"]), lambda h: sigmoid(h @ p["u"]), h) + x
    return h, h


@jax.custom_vjp
def scaled_backward(a):
    return a


scaled_backward.defvjp(lambda a: (a, None), lambda _, d: (0.5 * d,))


def has_a_rule_of_its_own(p, h, x):
    h = scaled_backward(tanh(h @ p["w"] + x))
    return h, h


def constant_weight(p, h, x):
    h = tanh(h @ W.astype(x.dtype) + x * p["b"][None])
    return h, h


def ignores_x(p, h, x):
    h = tanh(h @ p["w"])
    return h, h


def ignores_the_carry(p, h, x):
    a = tanh(x @ p["w"] + p["b"][None])
    return a, a + x


def leaves_the_carry(p, h, x):
    return h, h * tanh(x @ p["w"])


def only_params_come_out(p, h, x):
    return jnp.broadcast_to(softplus(p["b"][None]), h.shape), jnp.broadcast_to(p["b"], h.shape)


def swaps_its_carry(p, carry, x):
    return {"h": carry["c"], "c": tanh(carry["h"] @ p["w"] + x)}, carry["h"]


def many_outputs(p, h, x):
    gate = sigmoid(x @ p["u"])
    h = gate * h + (1 - gate) * tanh(h @ p["w"])
    return h, {"h": h, "gate": gate, "norm": (h * h).sum(axis=-1)}


def looks_at_other_rows(p, h, x):
    h = tanh(h @ p["w"] + x - h.mean(axis=0, keepdims=True))
    return h, h


ODD_STEPS = {
    step.__name__: step
    for step in (
        biases_everywhere,
        peepholes_everywhere,
        a_weight_of_two_products_in_a_row,
        one_matrix_for_x_and_h,
        fast_weights,
        counts_its_steps,
        drops_out,
        loops_within,
        decides,
        has_a_rule_of_its_own,
        constant_weight,
        ignores_x,
        ignores_the_carry,
        leaves_the_carry,
        only_params_come_out,
        swaps_its_carry,
        many_outputs,
        looks_at_other_rows,
    )
}


def odd_case(name) -> Case:
    rng = np.random.default_rng(0)
    h = normal(rng, BATCH, HIDDEN)
    others = {
        "fast_weights": {"memory": normal(rng, BATCH, HIDDEN, HIDDEN)},
        "counts_its_steps": {"steps": jnp.zeros((BATCH, 1), jnp.int32)},
        "drops_out": {"key": jax.random.key(0)},
        "swaps_its_carry": {"c": normal(rng, BATCH, HIDDEN)},
    }
    shapes = {"w": (HIDDEN, HIDDEN), "u": (HIDDEN, HIDDEN), "b": (HIDDEN,), "v": (HIDDEN,)}
    return Case(
        ODD_STEPS[name],
        {symbol: normal(rng, *shape) for symbol, shape in shapes.items()},
        {"h": h, **others[name]} if name in others else h,
        normal(rng, BATCH, TIME, HIDDEN),
        name,
    )


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", sorted(ODD_STEPS.keys() - {"drops_out", "only_params_come_out"}))
def test_odd_steps(name):
    assert_as_plain(odd_case(name))


@pytest.mark.usefixtures("float64")
def test_a_step_that_cannot_be_taken_apart_runs_as_a_plain_scan_and_says_so():
    with pytest.warns(UserWarning, match="only_params_come_out runs as a plain scan: it returns"):
        assert_as_plain(odd_case("only_params_come_out"))


@pytest.mark.usefixtures("float64")
def test_a_random_key_in_the_carry():
    case = odd_case("drops_out")

    def from_one_key(run):
        """What is differentiated is the carry without its key."""

        def with_key(params, h, xs):
            carry, ys = run(params, case.carry | {"h": h}, xs)
            return carry["h"], ys

        return with_key

    assert_as_plain(case._replace(carry=case.carry["h"]), from_one_key)


@pytest.mark.usefixtures("float64")
@cases("many_outputs", "counts_its_steps", "leaves_the_carry")
def test_odd_steps_with_lengths_in_reverse(known_as):
    assert_as_plain(odd_case(known_as), lengths=LENGTHS, reverse=True)


@pytest.mark.usefixtures("float64")
def test_what_is_not_used_has_a_gradient_of_zero():
    case = odd_case("ignores_x")
    _, (of_params, _, of_xs) = jit(everything(on(case, unroll)))(case.params, case.carry, case.xs)
    for name in ("u", "b", "v"):
        np.testing.assert_array_equal(of_params[name], jnp.zeros_like(case.params[name]))
    np.testing.assert_array_equal(of_xs, jnp.zeros_like(case.xs))
    assert (np.asarray(of_params["w"]) != 0).all()


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("compiled", [jit, lambda f: f], ids=["jit", "no jit"])
def test_a_step_that_closes_over_an_array_that_is_differentiated(compiled):
    case = odd_case("ignores_x")

    def loss(unroll):
        def of(w, u, h, xs):
            def step(params, h, x):
                h = tanh(h @ w + x @ params["u"] + h * (x @ w))
                return h, h

            return scalar(*unroll(step, {"u": u}, h, xs))

        return compiled(jax.grad(of, (0, 1, 2, 3)))

    arguments = case.params["w"], case.params["u"], case.carry, case.xs
    assert_close(loss(unroll)(*arguments), loss(plain_unroll)(*arguments))


# Transformations of JAX


def over_params(run):
    def batched(params, carry, xs):
        several = jax.tree.map(lambda a: jnp.stack([a, 0.5 * a]), params)
        return jax.vmap(run, (0, None, None))(several, carry, xs)

    return batched


def over_xs(run):
    def batched(params, carry, xs):
        return jax.vmap(run, (None, None, 0))(params, carry, jnp.stack([xs, -xs]))

    return batched


def over_everything(run):
    def batched(*arguments):
        return jax.vmap(run)(*jax.tree.map(lambda a: jnp.stack([a, -a]), arguments))

    return batched


def in_a_scan(run):
    def twice(params, carry, xs):
        return lax.scan(lambda carry, xs: run(params, carry, xs), carry, jnp.stack([xs, -xs]))

    return twice


every_transform = pytest.mark.parametrize(
    "transform",
    [over_params, over_xs, over_everything, in_a_scan, jax.checkpoint],
    ids=lambda f: f.__name__,
)


@pytest.mark.usefixtures("float64")
@every_transform
def test_transformations(transform):
    assert_as_plain(named_case("mut3"), transform, lengths=LENGTHS)


@pytest.mark.slow
@pytest.mark.usefixtures("float64")
@every_transform
@pytest.mark.parametrize("seed", range(5))
def test_transformations_of_random_cells(seed, transform):
    assert_as_plain(random_case(seed), transform, lengths=LENGTHS)


@pytest.mark.usefixtures("float64")
def test_vmap_over_lengths():
    case = named_case("gru")
    lengths = jnp.array([[4, 2], [0, 3], [1, 4]])
    arguments = case.params, case.carry, case.xs

    def run(*given):
        return jax.vmap(lambda its: unroll(case.cell, *given, lengths=its))(lengths)

    ours = jit(everything(run))(*arguments)

    def one_by_one(*given):
        each = [step_by_step(case, *given, lengths=its) for its in lengths]
        return jax.tree.map(lambda *a: jnp.stack(a), *each)

    assert_close(ours, everything(one_by_one)(*arguments))


@pytest.mark.usefixtures("float64")
@cases("lstm", 2)
def test_without_jit(known_as):
    case = case_of(known_as)
    arguments = case.params, case.carry, case.xs
    theirs = everything(lambda *given: step_by_step(case, *given))(*arguments)
    assert_close(everything(on(case, unroll))(*arguments), theirs, case.equation)


def forward(value, arguments, tangents):
    return jax.jvp(value, arguments, tangents)


def reverse_over_reverse(value, arguments, tangents):
    def slope(*given):
        products = jax.tree.map(lambda a, b: (a * b).sum(), gradient(*given), tangents)
        return sum(jax.tree.leaves(products))

    gradient = jax.grad(value, (0, 1, 2))
    return jax.grad(slope, (0, 1, 2))(*arguments)


def forward_over_reverse(value, arguments, _):
    return jax.jacfwd(jax.grad(value, (0, 1)), 1)(*arguments)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    "derivative", [forward, reverse_over_reverse, forward_over_reverse], ids=lambda f: f.__name__
)
@cases("gru", 1)
def test_forward_mode_and_second_derivatives(known_as, derivative):
    case = case_of(known_as, batch=1, time=3)
    arguments = case.params, case.carry, case.xs
    tangents = jax.tree.map(jnp.cos, arguments)

    def of(unroll):
        def value(*given):
            return scalar(*on(case, unroll, lengths=np.array([2]))(*given))

        return jit(lambda *given: derivative(value, given, tangents))(*arguments)

    assert_close(of(unroll), of(plain_unroll), case.equation)


# The compiled program


class Recurrent(NamedTuple):
    """What an equation asks of each step: left sides with the carry in them, matrices on them."""

    left_sides: int
    matrices: int


# By hand, from the page.
RECURRENT = {
    "rnn": Recurrent(1, 1),
    "lstm": Recurrent(1, 4),
    "gru": Recurrent(2, 3),  # h; r⊙h
    "gru_flipped": Recurrent(2, 3),
    "gru_reset_after": Recurrent(1, 3),
    "lstm_jzs": Recurrent(1, 4),
    "lstm_jzs_no_forget": Recurrent(1, 3),
    "lstm_jzs_no_input": Recurrent(1, 3),
    "lstm_jzs_no_output": Recurrent(1, 3),
    "lstm_jzs_bias": Recurrent(1, 4),
    "mut1": Recurrent(2, 2),  # h; r⊙h
    "mut2": Recurrent(2, 3),  # h; r⊙h
    "mut3": Recurrent(3, 3),  # tanh(h); h; r⊙h
    "lstm_peephole": Recurrent(1, 4),
    "lstm_nig": Recurrent(1, 3),
    "lstm_nfg": Recurrent(1, 3),
    "lstm_nog": Recurrent(1, 3),
    "lstm_niaf": Recurrent(1, 4),
    "lstm_noaf": Recurrent(1, 4),
    "lstm_cifg": Recurrent(1, 3),
    "lstm_np": Recurrent(1, 4),
    "lstm_fgr": Recurrent(4, 13),  # y; i; f; o
}

# No product of other sizes is divisible by the batch: an array without it is one of params.
PROGRAM = {"batch": 5, "time": 6, "input_dim": 4, "hidden_dim": 4}


def numbers_in_weights(loop):
    """How many numbers a loop holds in arrays of at least one matrix that have no batch axis."""
    shapes = [
        [int(axis) for axis in re.findall(r"\d+", carried.partition("[")[2])]
        for carried in loop.carries
    ]
    weights = [
        math.prod(shape) for shape in shapes if all(axis % PROGRAM["batch"] for axis in shape)
    ]
    return sum(size for size in weights if size >= PROGRAM["hidden_dim"] ** 2)


def compiled_gradient(name, **how):
    case = named_case(name, **PROGRAM)
    arguments = case.params, case.carry, case.xs
    return jit(everything(on(case, unroll, **how))).lower(*arguments).compile(), arguments


@pytest.mark.parametrize("name", CELLS)
def test_each_loop_multiplies_by_the_recurrent_weights_once_and_sums_no_gradient(name):
    compiled, _ = compiled_gradient(name)
    forward, backward = loops(compiled.as_text())
    left_sides, matrices = RECURRENT[name]
    for loop in (forward, backward):
        assert loop.trip_count == PROGRAM["time"]
        assert loop.dots == left_sides
        assert numbers_in_weights(loop) <= matrices * PROGRAM["hidden_dim"] ** 2


def test_lengths_and_reverse_add_no_product():
    compiled, _ = compiled_gradient("gru", lengths=np.array([6, 0, 3, 1, 6]), reverse=True)
    assert [loop.dots for loop in loops(compiled.as_text())] == [2, 2]


def test_the_same_bits_from_run_to_run_and_from_compilation_to_compilation():
    compiled, arguments = compiled_gradient("mut3")
    again, _ = compiled_gradient("mut3")
    first = compiled(*arguments)
    assert_same_bits(compiled(*arguments), first)
    assert_same_bits(again(*arguments), first)


# Half precision


def relative_error(ours, theirs):
    ours, theirs = (
        np.concatenate([np.ravel(leaf).astype(np.float64) for leaf in jax.tree.leaves(tree)])
        for tree in (ours, theirs)
    )
    return np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)


def in_dtype(case, dtype):
    params, carry, xs = (
        jax.tree.map(lambda leaf: leaf.astype(dtype), tree)
        for tree in (jax.tree.map(lambda leaf: 0.3 * leaf, case.params), case.carry, case.xs)
    )
    return params, carry, xs


@cases("lstm", "mut3")
def test_products_in_bfloat16_of_what_is_float32(known_as):
    case = named_case(known_as, batch=4, time=8, input_dim=16, hidden_dim=16)
    arguments = in_dtype(case, jnp.float32)
    theirs = jit(everything(on(case, plain_unroll)))(*arguments)
    ours = jit(everything(on(case, unroll, product_dtype=jnp.bfloat16)))(*arguments)
    assert jax.tree.map(lambda a: (a.shape, a.dtype), ours) == jax.tree.map(
        lambda a: (a.shape, a.dtype), theirs
    )
    (out, gradients), (plain_out, plain_gradients) = ours, theirs
    assert 1e-4 < relative_error(out, plain_out) < 2e-2
    assert 1e-4 < relative_error(gradients, plain_gradients) < 2e-2


@cases("lstm", "mut3")
def test_everything_in_bfloat16(known_as):
    case = named_case(known_as, batch=4, time=8, input_dim=16, hidden_dim=16)
    exact = jit(everything(on(case, plain_unroll)))(*in_dtype(case, jnp.float32))
    arguments = in_dtype(case, jnp.bfloat16)
    ours, theirs = (jit(everything(on(case, each)))(*arguments) for each in (unroll, plain_unroll))
    assert {leaf.dtype for leaf in jax.tree.leaves(ours)} == {jnp.dtype(jnp.bfloat16)}
    for mine, plain, right in zip(ours, theirs, exact, strict=True):
        assert relative_error(mine, right) < 1.2 * relative_error(plain, right)


# What cannot be


def zeros_mine():
    params = {"w": jnp.zeros((HIDDEN, HIDDEN))}
    carry = {"h": jnp.zeros((BATCH, HIDDEN)), "memory": jnp.zeros((BATCH, HIDDEN))}
    return params, carry, jnp.zeros((BATCH, TIME, HIDDEN))


@pytest.mark.parametrize("lengths", [None, jnp.asarray(LENGTHS)], ids=["all real", "lengths"])
def test_a_carry_that_changes_its_dtype(lengths):
    def step(p, carry, x):
        return carry | {"memory": carry["memory"].astype(jnp.bfloat16)}, carry["h"]

    with pytest.raises(ValueError, match=r"carry.*memory") as error:
        unroll(step, *zeros_mine(), lengths=lengths)
    assert "float32" in str(error.value)
    assert "bfloat16" in str(error.value)


@pytest.mark.parametrize("lengths", [None, jnp.asarray(LENGTHS)], ids=["all real", "lengths"])
def test_a_carry_that_changes_its_shape(lengths):
    def step(p, carry, x):
        return carry | {"memory": carry["memory"][:, :1]}, carry["h"]

    with pytest.raises(ValueError, match=r"carry.*memory") as error:
        unroll(step, *zeros_mine(), lengths=lengths)
    for shape in ((BATCH, HIDDEN), (BATCH, 1)):
        assert re.search(rf"[(\[]{shape[0]}, ?{shape[1]}[)\]]", str(error.value))


@pytest.mark.parametrize("lengths", [None, jnp.asarray(LENGTHS)], ids=["all real", "lengths"])
def test_a_carry_that_changes_its_structure(lengths):
    def step(p, carry, x):
        return {"h": carry["h"]}, carry["h"]

    with pytest.raises(ValueError, match=r"carry.*memory"):
        unroll(step, *zeros_mine(), lengths=lengths)


def test_inputs_of_a_width_that_the_params_do_not_have():
    case = named_case("rnn", input_dim=2)
    with pytest.raises(ValueError, match=r"w_xh.*\[D, H\]"):
        unroll(case.cell, case.params, case.carry, jnp.zeros((BATCH, TIME, 5)))


def test_a_carry_of_a_width_that_the_params_do_not_have():
    case = named_case("lstm")
    carry = case.carry._replace(c=jnp.zeros((BATCH, 5)))
    with pytest.raises(ValueError, match=r"carry.*c.*\[B, H\]"):
        unroll(case.cell, case.params, carry, case.xs)


def test_a_carry_of_another_batch():
    case = named_case("rnn")
    with pytest.raises(ValueError, match=r"carry.*\[B, H\]"):
        unroll(case.cell, case.params, jnp.zeros((BATCH + 1, HIDDEN)), case.xs)


def test_what_to_save_is_one_of_three():
    case = named_case("rnn")
    with pytest.raises(ValueError, match=r"save.*products.*carries.*segments.*'nothing'"):
        unroll(case.cell, case.params, case.carry, case.xs, save="nothing")
