"""Loops as they are read from compiled programs, against programs whose loops are known."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.numpy import tanh

from seqlab.recurrence.program import Loop, loops

H0 = jnp.ones((2, 3))
XS = jnp.ones((7, 2, 3))
W = jnp.full((3, 3), 0.1)


def compiled_loops(f, *arguments):
    return loops(jax.jit(f).lower(*arguments).compile().as_text())


def no_product(w, h, x):
    return tanh(h + x)


def one_product(w, h, x):
    return tanh(h @ w + x)


def three_products(w, h, x):
    return tanh(tanh(tanh(h @ w) @ w) @ w + x)


def over_time(step, **how):
    def run(w, h, xs):
        return lax.scan(lambda h, x: (step(w, h, x), None), h, xs, **how)[0].sum()

    return run


@pytest.mark.parametrize(("step", "dots"), [(no_product, 0), (one_product, 1), (three_products, 3)])
def test_a_scan_is_one_loop_with_the_products_of_its_step(step, dots):
    (loop,) = compiled_loops(over_time(step), W, H0, XS)
    assert (loop.trip_count, loop.dots) == (7, dots)
    assert loop.ops > dots
    assert {"f32[2,3]", "f32[7,2,3]"} <= set(loop.carries)
    assert ("f32[3,3]" in loop.carries) == (dots > 0)


def test_products_of_the_size_of_a_network_are_seen_inside_fusions():
    w, h, xs = jnp.ones((64, 64)), jnp.ones((20, 64)), jnp.ones((5, 20, 64))
    (loop,) = compiled_loops(over_time(three_products), w, h, xs)
    assert (loop.trip_count, loop.dots) == (5, 3)


def test_a_gradient_has_a_loop_each_way_and_two_products_per_product_on_the_way_back():
    forward, backward = compiled_loops(jax.grad(over_time(three_products)), W, H0, XS)
    assert (forward.trip_count, forward.dots) == (7, 3)
    assert (backward.trip_count, backward.dots) == (7, 6)


def test_a_loop_inside_a_loop_follows_it_and_keeps_its_own_products():
    def run(w, h, xs):
        def outer(h, _):
            h, _ = lax.scan(lambda h, x: (three_products(w, h, x), None), h, xs)
            return h @ w, None

        return lax.scan(outer, h, None, length=5)[0]

    outer, inner = compiled_loops(run, W, H0, XS)
    assert (outer.trip_count, outer.dots) == (5, 1)
    assert (inner.trip_count, inner.dots) == (7, 3)
    assert inner.ops > outer.ops


def test_loops_one_after_another_are_in_the_order_in_which_they_run():
    def run(w, h, xs):
        for step in (one_product, no_product, three_products):
            h, _ = lax.scan(lambda h, x, step=step: (step(w, h, x), None), h, xs)
        return h

    assert [loop.dots for loop in compiled_loops(run, W, H0, XS)] == [1, 0, 3]


def test_an_unrolled_scan_has_fewer_steps_of_more_products():
    first, *rest = compiled_loops(over_time(one_product, unroll=3), W, H0, XS)
    assert (first.trip_count, first.dots) == (2, 3)
    assert rest == []  # the seventh step stands alone
    assert compiled_loops(over_time(one_product, unroll=True), W, H0, XS) == []


def test_a_loop_that_ends_when_it_likes_has_no_trip_count():
    def run(w, h):
        return lax.while_loop(lambda h: h.sum() > 1e-3, lambda h: tanh(h @ w), h)

    (loop,) = compiled_loops(run, W, H0)
    assert (loop.trip_count, loop.dots) == (None, 1)


def test_no_loop():
    assert compiled_loops(lambda h, w: h @ w, H0, W) == []


def test_what_is_no_program():
    with pytest.raises(ValueError, match="no ENTRY computation"):
        loops("def f(x): return x")


# As a GPU and a TPU print them: products in libraries and in nested computations, tiled layouts.
ELSEWHERE = """\
HloModule jit_run, is_scheduled=true

%gemm_fusion (p0: f32[2,3], p1: f32[3,3]) -> f32[2,3] {
  %p0 = f32[2,3]{1,0} parameter(0)
  %p1 = f32[3,3]{1,0} parameter(1)
  ROOT %dot.1 = f32[2,3]{1,0} dot(%p0, %p1), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

%triton (q0: f32[2,3], q1: f32[3,3]) -> f32[2,3] {
  %q0 = f32[2,3]{1,0} parameter(0)
  %q1 = f32[3,3]{1,0} parameter(1)
  ROOT %nested = f32[2,3]{1,0} fusion(%q0, %q1), kind=kCustom, calls=%gemm_fusion
}

%command_buffer (r0: f32[2,3], r1: f32[3,3]) -> f32[2,3] {
  %r0 = f32[2,3]{1,0} parameter(0)
  %r1 = f32[3,3]{1,0} parameter(1)
  %gemm = (f32[2,3]{1,0}, s8[64]{0}) custom-call(%r0, %r1), custom_call_target="__cublas$gemm"
  %h = f32[2,3]{1,0} get-tuple-element(%gemm), index=0
  ROOT %out = f32[2,3]{1,0} fusion(%h, %r1), kind=kCustom, calls=%triton
}

%body (s: (s32[], f32[2,3], f32[3,3])) -> (s32[], f32[2,3], f32[3,3]) {
  %s = (s32[]{:T(128)}, f32[2,3]{1,0:T(2,128)}, /*index=2*/f32[3,3]{1,0:T(4,128)}) parameter(0)
  %t = s32[]{:T(128)} get-tuple-element(%s), index=0
  %h.1 = f32[2,3]{1,0:T(2,128)} get-tuple-element(%s), index=1
  %w = f32[3,3]{1,0:T(4,128)} get-tuple-element(%s), index=2
  %one = s32[]{:T(128)} constant(1)
  %next = s32[]{:T(128)} add(%t, %one)
  %call = f32[2,3]{1,0} call(%h.1, %w), to_apply=%command_buffer
  %lt = (f32[2,3]{1,0}, s8[64]{0}) custom-call(%w), custom_call_target="__cublas$lt$matmul"
  %sort = f32[2,3]{1,0} custom-call(%call), custom_call_target="__cub$DeviceRadixSort"
  ROOT %tuple = (s32[], f32[2,3]{1,0}, f32[3,3]{1,0}) tuple(%next, %sort, %w)
}

%condition (u: (s32[], f32[2,3], f32[3,3])) -> pred[] {
  %u = (s32[], f32[2,3]{1,0}, f32[3,3]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%u), index=0
  %n = s32[] constant(9)
  ROOT %less = pred[] compare(%i, %n), direction=LT
}

ENTRY %main (a: (s32[], f32[2,3], f32[3,3])) -> (s32[], f32[2,3], f32[3,3]) {
  %a = (s32[], f32[2,3]{1,0}, f32[3,3]{1,0}) parameter(0)
  ROOT %while = (s32[]{:T(128)}, f32[2,3]{1,0:T(2,128)}, /*index=2*/f32[3,3]{1,0:T(4,128)}) \
while(%a), condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"9"}}
}
"""


def test_programs_of_other_platforms():
    # add, gemm and triton in the call, cublasLt, sort
    assert loops(ELSEWHERE) == [
        Loop(trip_count=9, ops=5, dots=3, carries=("s32[]", "f32[2,3]", "f32[3,3]"))
    ]
