"""The recurrence compiler: the numbers of a loop in Python, and of the plain scan."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.numpy import tanh
from odd_steps import ODD_STEPS, odd_case
from recurrence_cases import (
    LENGTHS,
    SAVES,
    assert_as_plain,
    assert_close,
    case_of,
    cases,
    everything,
    jit,
    named_case,
    on,
    random_case,
    scalar,
    step_by_step,
)

from seqlab.recurrence import plain_unroll, unroll


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


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", sorted(ODD_STEPS.keys() - {"drops_out", "only_params_come_out"}))
def test_odd_steps(name):
    assert_as_plain(odd_case(name))


@pytest.mark.slow
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", sorted(ODD_STEPS.keys() - {"drops_out", "only_params_come_out"}))
def test_odd_steps_computed_again(name):
    def ours(*arguments, **how):
        return unroll(*arguments, save="carries", **how)

    assert_as_plain(odd_case(name), ours=ours, lengths=LENGTHS, reverse=True)


@pytest.mark.usefixtures("float64")
def test_a_step_that_cannot_be_taken_apart_runs_as_a_plain_scan_and_says_so():
    with pytest.warns(UserWarning, match="only_params_come_out runs as a plain scan: it returns"):
        assert_as_plain(odd_case("only_params_come_out"))


def test_a_plain_scan_has_no_products_to_round():
    case = odd_case("only_params_come_out")
    with pytest.raises(ValueError, match=r"product_dtype.*only_params_come_out.*plain scan: it re"):
        unroll(*case[:4], product_dtype=jnp.bfloat16)


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
