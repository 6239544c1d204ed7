"""The implementations that a cell is measured against, and where each can run."""

import os
import shutil
from importlib.util import find_spec
from typing import NamedTuple

from seqlab.benchmark import jax_programs, products
from seqlab.benchmark.case import Case, Program, Shape


class Peer(NamedTuple):
    """What ours is measured against.

    Attributes:
        title: what it is called in a table.
        what: what it is.
        is_floor: it is not the cell but a part of the work, and no competitor: its ratio is the
            share of our time that the part alone takes. It has no outputs that could be wrong.
    """

    title: str
    what: str
    is_floor: bool = False


PEERS = {
    "plain": Peer("plain scan", "jax.lax.scan of the printed step, differentiated by JAX"),
    "nnx": Peer("flax nnx", "flax.nnx.RNN of its own cell (rnn, lstm), else of the printed step"),
    "linen": Peer(
        "flax linen",
        "flax.linen.RNN of its own cell (rnn, lstm, gru_reset_after), else of the printed step",
    ),
    "torch": Peer(
        "torch",
        "nn.RNN, nn.LSTM, nn.GRU (gru_reset_after), else a loop over time with the input products "
        "before it",
    ),
    "torch_compile": Peer("torch compiled", "that loop under torch.compile, up to 35 steps"),
    "cudnn": Peer("cuDNN in JAX", "jax.experimental.rnn.lstm, on GPUs"),
    "products": Peer(
        "products alone",
        "no competitor but a floor, the matrix products of our program in the same loops and "
        "nothing else; the ratio is their share of our time, and what they compute is not a cell",
        is_floor=True,
    ),
}
RIVALS = tuple(name for name, peer in PEERS.items() if not peer.is_floor)

IN_TORCH = ("rnn", "lstm", "gru_reset_after", "gru", "mut1", "mut2", "mut3")
LOOPS_IN_TORCH = ("gru", "mut1", "mut2", "mut3")
# The compiler unrolls the loop, and takes one or two seconds a step.
MAX_COMPILED_STEPS = 35


def has_cell(peer: str, cell: str, shape: Shape, precision: str) -> bool:
    """Whether a peer implements a cell at all, on any machine."""
    if peer == "cudnn":
        return cell == "lstm" and precision != "bfloat16"
    if peer == "torch":
        return cell in IN_TORCH
    if peer == "torch_compile":
        return cell in LOOPS_IN_TORCH and shape.time <= MAX_COMPILED_STEPS
    return True


def missing(peer: str, platform: str) -> str | None:
    """What a peer lacks here, or None; asked in a moment, with nothing imported.

    Args:
        peer: a name in PEERS.
        platform: cpu, gpu or tpu.
    """
    if peer == "cudnn" and platform != "gpu":
        return "jax.experimental.rnn needs a GPU"
    if peer in ("torch", "torch_compile"):
        if find_spec("torch") is None:
            return "torch is not installed: pip install -e '.[bench]'"
        if platform == "tpu":
            return "torch does not compute on TPUs"
    if peer == "torch_compile" and shutil.which(os.environ.get("CXX", "g++")) is None:
        return "torch.compile needs a C++ compiler"
    return None


def prepare(case: Case, peer: str) -> Program:
    """A case as the peer computes it."""
    if peer in ("torch", "torch_compile"):
        from seqlab.benchmark import torch_programs  # seconds, and not everybody has it

        return torch_programs.prepare(case, compiled=peer == "torch_compile")
    if peer == "products":
        return products.prepare(case)
    recurrence = {
        "plain": jax_programs.plain,
        "nnx": jax_programs.nnx_rnn,
        "linen": jax_programs.linen,
        "cudnn": jax_programs.cudnn,
    }[peer]
    return jax_programs.prepare(case, recurrence(case))
