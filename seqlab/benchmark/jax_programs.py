"""A cell over time in JAX: ours, the plain scan, Flax's two RNNs, cuDNN's LSTM."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from flax.nnx.nn.recurrent import RNNCellBase
from jax.experimental import rnn as cudnn_rnn

from seqlab.benchmark.case import CHECKED_RATE, CLIP_NORM, PRECISIONS, Case, Program
from seqlab.benchmark.layout import Layout, as_written, pack, unpack
from seqlab.cells import CELLS, Cell
from seqlab.optim import clipped
from seqlab.recurrence import plain_unroll, unroll
from seqlab.recurrence.program import loops


class Recurrence(NamedTuple):
    """A library's way to run a cell over time.

    Attributes:
        apply: (params as the library keeps them, xs [B, T, D]) -> ys [B, T, H].
        layout: how it keeps them.
        version: the library and its version.
    """

    apply: Callable[[Any, jax.Array], Any]
    layout: Layout
    version: str


def seqlab(case: Case) -> Recurrence:
    def apply(params, xs):
        return unroll(CELLS[case.cell], params, _carry(case), xs)[1]

    return Recurrence(apply, as_written(case.params), "seqlab")


def plain(case: Case) -> Recurrence:
    """`jax.lax.scan` of the printed step."""

    def apply(params, xs):
        return plain_unroll(CELLS[case.cell], params, _carry(case), xs)[1]

    return Recurrence(apply, as_written(case.params), f"jax {jax.__version__}")


def reference(case: Case) -> dict[str, np.ndarray]:
    """The outputs that all implementations are held to: the plain scan in float32."""
    in_float32 = case._replace(precision="float32")
    return prepare(in_float32, plain(in_float32)).outputs()


# Flax: its own cell where it computes the same, else the printed step as one of its cells. Its RNN
# scans the cell, input product and all.

GATES = ("i", "f", "g", "o")

LINEN_LAYOUTS: dict[str, Layout] = {
    "rnn": {("i", "kernel"): ("w_xh",), ("i", "bias"): ("b_h",), ("h", "kernel"): ("w_hh",)},
    "lstm": {
        **{(f"i{gate}", "kernel"): (f"w_x{gate}",) for gate in GATES},
        **{(f"h{gate}", "kernel"): (f"w_h{gate}",) for gate in GATES},
        **{(f"h{gate}", "bias"): (f"b_{gate}",) for gate in GATES},
    },
    "gru_reset_after": {
        **{(f"i{gate}", "kernel"): (f"w_x{gate}",) for gate in ("r", "z", "n")},
        **{(f"h{gate}", "kernel"): (f"w_h{gate}",) for gate in ("r", "z", "n")},
        ("ir", "bias"): ("b_r",),
        ("iz", "bias"): ("b_z",),
        ("in", "bias"): ("b_xn",),
        ("hn", "bias"): ("b_hn",),
    },
}

# `nnx.GRUCell` has no bias b_hn, and is another cell.
NNX_LAYOUTS: dict[str, Layout] = {
    "rnn": {
        ("dense_i", "kernel"): ("w_xh",),
        ("dense_i", "bias"): ("b_h",),
        ("dense_h", "kernel"): ("w_hh",),
    },
    "lstm": {
        ("dense_i", "kernel"): tuple(f"w_x{gate}" for gate in GATES),
        ("dense_h", "kernel"): tuple(f"w_h{gate}" for gate in GATES),
        ("dense_h", "bias"): tuple(f"b_{gate}" for gate in GATES),
    },
}


class LinenStep(nn.RNNCellBase):
    """A cell of ours as one of Linen's."""

    cell: Cell
    units: int

    @nn.compact
    def __call__(self, carry: Any, x: jax.Array) -> tuple[Any, jax.Array]:
        params = {
            symbol: self.param(symbol, lambda key, s=symbol: self._init(key, x)[s])
            for symbol in jax.eval_shape(self._init, jax.random.key(0), x)
        }
        return self.cell.step(params, carry, x)

    def _init(self, key: jax.Array, x: jax.Array) -> dict[str, jax.Array]:
        return self.cell.init(key, x.shape[-1], self.units)

    @property
    def num_feature_axes(self) -> int:
        return 1


class NnxStep(RNNCellBase):
    """A cell of ours as one of nnx's."""

    def __init__(self, step: Callable, params: dict[str, np.ndarray]):
        self.step = step
        self.symbols = nnx.Dict({name: nnx.Param(value) for name, value in params.items()})

    def __call__(self, carry: Any, x: jax.Array) -> tuple[Any, jax.Array]:
        return self.step({name: param[...] for name, param in self.symbols.items()}, carry, x)

    @property
    def num_feature_axes(self) -> int:
        return 1


def linen(case: Case) -> Recurrence:
    """`flax.linen.RNN`."""
    units = case.shape.hidden_dim
    dtype = PRECISIONS[case.precision].dtype
    own = {"rnn": nn.SimpleCell, "lstm": nn.OptimizedLSTMCell, "gru_reset_after": nn.GRUCell}
    if case.cell in own:
        cell = own[case.cell](units, dtype=dtype, param_dtype=dtype)
        layout = LINEN_LAYOUTS[case.cell]
    else:
        cell, layout = LinenStep(CELLS[case.cell], units), as_written(case.params)
    model = nn.RNN(cell)

    def apply(tree, xs):
        carry = _carry(case)
        return model.apply(tree, xs, initial_carry=tuple(carry) if case.cell == "lstm" else carry)

    nested = {("params", "cell", *path): symbols for path, symbols in layout.items()}
    return Recurrence(apply, nested, f"flax {flax.__version__}, {type(cell).__name__}")


def nnx_rnn(case: Case) -> Recurrence:
    """`flax.nnx.RNN`."""
    dtype = PRECISIONS[case.precision].dtype
    own = {"rnn": nnx.SimpleCell, "lstm": nnx.OptimizedLSTMCell}
    if case.cell in own:
        sizes = case.shape.input_dim, case.shape.hidden_dim

        def make() -> RNNCellBase:
            return own[case.cell](*sizes, dtype=dtype, param_dtype=dtype, rngs=nnx.Rngs(0))

        cell = nnx.eval_shape(make)  # its weights would be drawn for nothing
        layout = NNX_LAYOUTS[case.cell]
    else:
        cell = NnxStep(CELLS[case.cell].step, case.params)
        layout = as_written(case.params, "symbols")
    graph, _ = nnx.split(nnx.RNN(cell, rngs=False))

    def apply(tree, xs):
        model = nnx.merge(graph, nnx.State(jax.tree.map(nnx.Param, tree)))
        carry = _carry(case)
        return model(xs, initial_carry=tuple(carry) if case.cell == "lstm" else carry)

    nested = {("cell", *path): symbols for path, symbols in layout.items()}
    return Recurrence(apply, nested, f"flax {flax.__version__}, {type(cell).__name__}")


def cudnn(case: Case, run: Callable = cudnn_rnn.lstm) -> Recurrence:
    """`jax.experimental.rnn.lstm`; `run` computes it."""
    batch_size, _, input_dim, hidden_dim = (
        case.shape.batch_size,
        case.shape.time,
        case.shape.input_dim,
        case.shape.hidden_dim,
    )

    def apply(params, xs):
        flat = [params[f"w_{side}{gate}"].T.ravel() for side in "xh" for gate in GATES]
        flat += [params[f"b_{gate}"] for gate in GATES]  # b_ih; b_hh is 0
        weights = jnp.concatenate([*flat, jnp.zeros(4 * hidden_dim, xs.dtype)])
        lengths = jnp.full(batch_size, xs.shape[1], jnp.int32)
        h0 = jnp.zeros((1, batch_size, hidden_dim), xs.dtype)
        ys, _, _ = run(
            xs, h0, h0, weights, lengths, input_dim, hidden_dim, 1, 0.0, False,
            jax.config.jax_default_matmul_precision,  # pyright: ignore
        )  # fmt: skip
        return ys

    return Recurrence(apply, as_written(case.params), f"jax {jax.__version__}")


def _carry(case: Case) -> Any:
    dtype = PRECISIONS[case.precision].dtype
    return CELLS[case.cell].initial_carry(case.shape.batch_size, case.shape.hidden_dim, dtype)


# The workloads, the same for all


def compute(
    recurrence: Recurrence,
    workload: str,
    params: Any,
    xs: jax.Array,
    weights: jax.Array,
    rate: jax.Array,
) -> dict[str, Any]:
    """One workload; see `Case`."""
    if workload == "forward":
        return {"ys": recurrence.apply(params, xs)}

    def loss(params: Any, xs: jax.Array) -> jax.Array:
        return (recurrence.apply(params, xs) * weights).sum()

    value, (d_params, d_xs) = jax.value_and_grad(loss, argnums=(0, 1))(params, xs)
    if workload == "forward+backward":
        return {"loss": value, "d_params": d_params, "d_xs": d_xs}
    optimizer = clipped("sgd", rate, CLIP_NORM)
    updates, _ = optimizer.update(d_params, optimizer.init(params), params)
    return {"loss": value, "params": optax.apply_updates(params, updates), "d_xs": d_xs}


def prepare(case: Case, recurrence: Recurrence) -> Program:
    """Compile a case."""
    dtype = PRECISIONS[case.precision].dtype

    def on_device(array: np.ndarray) -> jax.Array:
        return jnp.asarray(array, dtype)

    params = jax.tree.map(on_device, pack(recurrence.layout, case.params))
    arguments = params, on_device(case.xs), on_device(case.weights)

    def run(params, xs, weights, rate):
        return compute(recurrence, case.workload, params, xs, weights, rate)

    compiled, facts = compile_in(case.precision, run, *arguments, on_device(np.zeros(())))

    # At rate 0 the thousandth call computes what the first did.
    still, moving = on_device(np.zeros(())), on_device(np.array(CHECKED_RATE))
    waits = jax.default_backend() == "cpu"  # else calls would overlap on a CPU's cores

    def call() -> Any:
        results = compiled(*arguments, still)
        return jax.block_until_ready(results) if waits else results

    def outputs() -> dict[str, np.ndarray]:
        results = compiled(*arguments, moving)
        named = {k: np.asarray(results[k], np.float32) for k in ("ys", "d_xs") if k in results}
        if "d_params" in results:
            gradients = unpack(recurrence.layout, results["d_params"])
            named |= {f"d_{symbol}": value for symbol, value in gradients.items()}
        if "params" in results:
            trained = unpack(recurrence.layout, results["params"])
            named |= {f"update_{s}": value - case.params[s] for s, value in trained.items()}
        return named

    facts = {"version": recurrence.version, **facts}
    return Program(call, jax.block_until_ready, outputs, facts)


def compile_in(precision: str, run: Callable, *arguments: Any) -> tuple[Any, dict[str, Any]]:
    """A program, and what there is to record of it; see `PRECISIONS`."""
    began = time.perf_counter()
    with jax.default_matmul_precision(PRECISIONS[precision].matmul):
        compiled = jax.jit(run).lower(*arguments).compile()
    compile_seconds = time.perf_counter() - began
    memory: Any = compiled.memory_analysis()
    ends = memory.argument_size_in_bytes + memory.output_size_in_bytes
    found = loops(compiled.as_text() or "")
    return compiled, {
        "compile_s": compile_seconds,
        "while_body_ops": [loop.ops for loop in found],
        "dots_in_loop": [loop.dots for loop in found],
        "trip_counts": [loop.trip_count for loop in found],
        "bytes": ends,
        "peak_mem": ends + memory.temp_size_in_bytes,
    }
