"""What a compiled program does per step of time: its loops, read from the optimised HLO text."""

import re
from collections.abc import Iterator
from typing import NamedTuple


class Loop(NamedTuple):
    """One while loop of a compiled program.

    Attributes:
        trip_count: how many times the body runs; None where the compiler does not know.
        ops: instructions that the body executes, each time. A fusion is one, a loop inside is one,
            a call is what it calls.
        dots: matrix products that the body computes, each time: as instructions, inside fusions
            and as calls to a library. Those of a loop inside belong to that loop.
        carries: the arrays that the body takes and returns, as "f32[20,128]": what changes from
            step to step, and what every step reads.
    """

    trip_count: int | None
    ops: int
    dots: int
    carries: tuple[str, ...]


def loops(hlo_text: str) -> list[Loop]:
    """All loops of `jax.jit(f).lower(...).compile().as_text()`, on any platform.

    They are in the order in which they run, a loop before the loops inside it.

    Raises:
        ValueError: the text is not that of an HLO module.
    """
    computations, entry = _computations(hlo_text)
    return list(_loops_of(entry, computations))


class _Instruction(NamedTuple):
    opcode: str
    attributes: str  # all that follows the opcode, operands included
    shape: str


_Computations = dict[str, list[_Instruction]]

_HEADER = re.compile(r"(?P<entry>ENTRY )?%?(?P<name>[\w.-]+) \(.*\) -> .* \{")
_INSTRUCTION = re.compile(
    r"\s+(?:ROOT )?%?[\w.-]+ = (?P<shape>\(.*?\)|\S+) (?P<opcode>[a-z][a-z\d-]*)\((?P<rest>.*)"
)
_ARRAY = re.compile(r"[a-z]\w*\[[\d,<=]*\]")
_TRIP_COUNT = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_CALLED = re.compile(
    r"\b(?:calls|to_apply|condition|body|true_computation|false_computation)=%?([\w.-]+)"
    r"|\b(?:branch_computations|called_computations)=\{([^}]*)\}"
)
_LIBRARY_PRODUCT = re.compile(r'custom_call_target="[^"]*(?:gemm|matmul)')

# Names of values, which take no time.
_NOT_EXECUTED = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast"}


def _computations(hlo_text: str) -> tuple[_Computations, str]:
    computations: _Computations = {}
    entry = None
    instructions: list[_Instruction] = []
    for line in hlo_text.splitlines():
        if header := _HEADER.match(line):
            instructions = computations[header["name"]] = []
            entry = header["name"] if header["entry"] else entry
        elif found := _INSTRUCTION.match(line):
            instructions.append(_Instruction(found["opcode"], found["rest"], found["shape"]))
    if entry is None:
        raise ValueError("no ENTRY computation: not the text of an optimised HLO module")
    return computations, entry


def _called(instruction: _Instruction) -> list[str]:
    found = _CALLED.findall(instruction.attributes)
    return [name for names in found for name in re.findall(r"[\w.-]+", "".join(names))]


def _loops_of(computation: str, computations: _Computations) -> Iterator[Loop]:
    for instruction in computations[computation]:
        if instruction.opcode == "while":
            yield _loop(instruction, computations)
        for called in _called(instruction):
            yield from _loops_of(called, computations)


def _loop(instruction: _Instruction, computations: _Computations) -> Loop:
    (body,) = re.findall(r"\bbody=%?([\w.-]+)", instruction.attributes)
    trip_count = _TRIP_COUNT.search(instruction.attributes)
    return Loop(
        trip_count=int(trip_count[1]) if trip_count else None,
        ops=_ops(body, computations),
        dots=_dots(body, computations),
        carries=tuple(_ARRAY.findall(instruction.shape)),
    )


def _ops(computation: str, computations: _Computations) -> int:
    count = 0
    for instruction in computations[computation]:
        if instruction.opcode == "call":
            count += sum(_ops(called, computations) for called in _called(instruction))
        elif instruction.opcode not in _NOT_EXECUTED:
            count += 1
    return count


def _dots(computation: str, computations: _Computations) -> int:
    count = 0
    for instruction in computations[computation]:
        if instruction.opcode == "dot" or _LIBRARY_PRODUCT.search(instruction.attributes):
            count += 1
        elif instruction.opcode != "while":
            count += sum(_dots(called, computations) for called in _called(instruction))
    return count
