"""A cell over time in PyTorch: its own layer where there is one, else a loop over the equation."""

import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch import Tensor, nn, sigmoid, tanh  # pyright: ignore[reportMissingImports]

from seqlab.benchmark.case import CHECKED_RATE, CLIP_NORM, PRECISIONS, Case, Program
from seqlab.benchmark.cudnn_algorithm import cudnn_algorithm
from seqlab.benchmark.layout import Layout, as_written, pack, unpack
from seqlab.benchmark.timing import num_threads
from seqlab.errors import InputError

LAYERS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru_reset_after": nn.GRU}

# PyTorch's matrices are the transposes of these. It has a second bias everywhere.
LAYOUTS: dict[str, Layout] = {
    "rnn": {
        ("weight_ih_l0",): ("w_xh",),
        ("weight_hh_l0",): ("w_hh",),
        ("bias_ih_l0",): ("b_h",),
        ("bias_hh_l0",): (None,),
    },
    "lstm": {
        ("weight_ih_l0",): ("w_xi", "w_xf", "w_xg", "w_xo"),
        ("weight_hh_l0",): ("w_hi", "w_hf", "w_hg", "w_ho"),
        ("bias_ih_l0",): ("b_i", "b_f", "b_g", "b_o"),
        ("bias_hh_l0",): (None, None, None, None),
    },
    "gru_reset_after": {
        ("weight_ih_l0",): ("w_xr", "w_xz", "w_xn"),
        ("weight_hh_l0",): ("w_hr", "w_hz", "w_hn"),
        ("bias_ih_l0",): ("b_r", "b_z", "b_xn"),
        ("bias_hh_l0",): (None, None, "b_hn"),
    },
}


# The cells that PyTorch has not, as somebody who cares for speed would write them: the products
# with the input before the loop, in one; those with the same left side in one.


def _projected(xs: Tensor, weights: list[Tensor], biases: list[Tensor]) -> tuple[Tensor, ...]:
    """x W + b of all steps in one product; one [B, …] a step."""
    return (xs.transpose(0, 1) @ torch.cat(weights, 1) + torch.cat(biases)).unbind(0)


def _zeros(xs: Tensor, like: Tensor) -> Tensor:
    return xs.new_zeros(xs.shape[0], like.shape[0])


def gru(xs, w_xr, w_hr, b_r, w_xz, w_hz, b_z, w_xh, w_hh, b_h):
    h, ys, w_h = _zeros(xs, w_hh), [], torch.cat([w_hr, w_hz], 1)
    units = w_hh.shape[0]
    for x in _projected(xs, [w_xr, w_xz, w_xh], [b_r, b_z, b_h]):
        r, z = sigmoid(x[:, : 2 * units] + h @ w_h).chunk(2, 1)
        h = z * h + (1 - z) * tanh(x[:, 2 * units :] + (r * h) @ w_hh)
        ys.append(h)
    return torch.stack(ys, 1)


def mut1(xs, w_xz, b_z, w_xr, w_hr, b_r, w_hh, b_h):
    h, ys = _zeros(xs, w_hh), []
    units = w_hh.shape[0]
    raw = (tanh(xs) + b_h).transpose(0, 1).unbind(0)
    for x, added in zip(_projected(xs, [w_xz, w_xr], [b_z, b_r]), raw, strict=True):
        z = sigmoid(x[:, :units])
        r = sigmoid(x[:, units:] + h @ w_hr)
        h = tanh((r * h) @ w_hh + added) * z + h * (1 - z)
        ys.append(h)
    return torch.stack(ys, 1)


def mut2(xs, w_xz, w_hz, b_z, w_hr, b_r, w_hh, w_xh, b_h):
    h, ys, w_h = _zeros(xs, w_hh), [], torch.cat([w_hz, w_hr], 1)
    units = w_hh.shape[0]
    raw = (xs + b_r).transpose(0, 1).unbind(0)
    for x, added in zip(_projected(xs, [w_xz, w_xh], [b_z, b_h]), raw, strict=True):
        to_z, to_r = (h @ w_h).chunk(2, 1)
        z = sigmoid(x[:, :units] + to_z)
        r = sigmoid(added + to_r)
        h = tanh((r * h) @ w_hh + x[:, units:]) * z + h * (1 - z)
        ys.append(h)
    return torch.stack(ys, 1)


def mut3(xs, w_xz, w_hz, b_z, w_xr, w_hr, b_r, w_hh, w_xh, b_h):
    h, ys = _zeros(xs, w_hh), []
    for x in _projected(xs, [w_xz, w_xr, w_xh], [b_z, b_r, b_h]):
        x_z, x_r, x_h = x.chunk(3, 1)
        z = sigmoid(x_z + tanh(h) @ w_hz)
        r = sigmoid(x_r + h @ w_hr)
        h = tanh((r * h) @ w_hh + x_h) * z + h * (1 - z)
        ys.append(h)
    return torch.stack(ys, 1)


LOOPS = {"gru": gru, "mut1": mut1, "mut2": mut2, "mut3": mut3}


class _Network(NamedTuple):
    """What is trained, the layout of it, and its outputs."""

    leaves: dict[str, Tensor]
    layout: Layout
    apply: Callable[[Tensor], Tensor]
    name: str


def prepare(case: Case, compiled: bool) -> Program:
    """A case in PyTorch; `compiled` has its loop compiled by `torch.compile`, which takes minutes.

    Raises:
        InputError: JAX has a GPU here and PyTorch has none.
    """
    device = _same_device()
    _same_arithmetic(case)
    dtype = getattr(torch, PRECISIONS[case.precision].dtype)

    def on_device(array: np.ndarray) -> Tensor:
        return torch.tensor(array).to(device, dtype)

    network = (
        _layer(case, device, dtype) if case.cell in LAYERS else _loop(case, compiled, on_device)
    )
    weights = on_device(case.weights)
    xs = on_device(case.xs).requires_grad_()
    leaves = list(network.leaves.values())
    still, moving = (torch.optim.SGD(leaves, lr=rate) for rate in (0.0, CHECKED_RATE))

    def forward() -> Tensor:
        with torch.no_grad():
            return network.apply(xs)

    def backward() -> tuple[Tensor, ...]:
        return torch.autograd.grad((network.apply(xs) * weights).sum(), [*leaves, xs])

    def training_step(optimizer: torch.optim.SGD) -> None:
        optimizer.zero_grad()
        xs.grad = None
        (network.apply(xs) * weights).sum().backward()
        _without_second_biases(network)
        nn.utils.clip_grad_norm_(leaves, CLIP_NORM)
        optimizer.step()

    calls = {
        "forward": forward,
        "forward+backward": backward,
        "training step": lambda: training_step(still),
    }
    call: Callable[[], Any] = calls[case.workload]

    def outputs() -> dict[str, np.ndarray]:
        if case.workload == "forward":
            return {"ys": _numpy(forward())}
        if case.workload == "forward+backward":
            *gradients, d_xs = backward()
            named = _by_symbol(network, gradients)
            return {f"d_{s}": value for s, value in named.items()} | {"d_xs": _numpy(d_xs)}
        before = [leaf.detach().clone() for leaf in leaves]
        training_step(moving)
        updates = [leaf.detach() - old for leaf, old in zip(leaves, before, strict=True)]
        with torch.no_grad():
            for leaf, old in zip(leaves, before, strict=True):
                leaf.copy_(old)
        named = _by_symbol(network, updates)
        return {f"update_{s}": v for s, v in named.items()} | {"d_xs": _numpy(_gradient(xs))}

    def wait(_: Any) -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    began = time.perf_counter()
    wait(call())
    facts: dict[str, Any] = {
        "version": f"torch {torch.__version__}, {network.name}",
        "first_call_s": time.perf_counter() - began,
        "threads": torch.get_num_threads(),
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY", ""),
    }
    if device == "cuda" and case.cell in LAYERS:
        facts["cudnn_version"] = torch.backends.cudnn.version()
        facts["algorithm"] = [
            cudnn_algorithm(case.cell, case.shape, PRECISIONS[case.precision].dtype, backward)
            for backward in ((False,) if case.workload == "forward" else (False, True))
        ]
    return Program(call, wait, outputs, facts)


def _layer(case: Case, device: str, dtype: torch.dtype) -> _Network:
    layout = LAYOUTS[case.cell]
    layer = LAYERS[case.cell](case.shape.input_dim, case.shape.hidden_dim, batch_first=True)
    values = {name: torch.tensor(array.T) for name, array in pack(layout, case.params).items()}
    layer.load_state_dict(values)
    layer.to(device, dtype)
    name = f"nn.{type(layer).__name__}"
    return _Network(dict(layer.named_parameters()), layout, lambda xs: layer(xs)[0], name)


def _loop(case: Case, compiled: bool, on_device: Callable[[np.ndarray], Tensor]) -> _Network:
    leaves = {name: on_device(value).requires_grad_() for name, value in case.params.items()}
    loop = LOOPS[case.cell]
    run = torch.compile(loop, fullgraph=True, dynamic=False) if compiled else loop
    name = "compiled loop" if compiled else "loop"
    return _Network(leaves, as_written(case.params), lambda xs: run(xs, **leaves), name)


def _by_symbol(network: _Network, arrays: list[Tensor]) -> dict[str, np.ndarray]:
    named = {k: _numpy(array) for k, array in zip(network.leaves, arrays, strict=True)}
    if network.layout in LAYOUTS.values():
        named = {name: array.T for name, array in named.items()}
    return unpack(network.layout, named)


def _without_second_biases(network: _Network) -> None:
    """The gradient of what the equation has not is no part of the norm that is clipped."""
    for (name,), symbols in network.layout.items():
        parts = _gradient(network.leaves[name]).chunk(len(symbols))
        for symbol, part in zip(symbols, parts, strict=True):
            if symbol is None:
                part.zero_()


def _gradient(leaf: Tensor) -> Tensor:
    assert leaf.grad is not None
    return leaf.grad


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().float().cpu().numpy()


def _same_device() -> str:
    if jax.default_backend() != "gpu":
        return "cpu"
    if not torch.cuda.is_available():
        raise InputError("JAX computes on a GPU and this torch has no CUDA: install one that has")
    return "cuda"


def _same_arithmetic(case: Case) -> None:
    """As many threads as XLA has, and the products of float32 as precise."""
    torch.set_num_threads(num_threads())
    allow_tf32 = case.precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = allow_tf32
    torch.backends.cudnn.allow_tf32 = allow_tf32
