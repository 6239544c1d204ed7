"""Peak memory of a traced program, predicted: what XLA keeps, in the order in which it runs.

Four things decide how much is alive at once, and each is imitated here as XLA does it for CPUs:
which arrays get memory of their own (`_Kernels`: element-wise operations are fused into all that
read them, convolutions and products are not), what else their way of computing takes (copies
with another layout for the gradients of convolutions, index arrays for those of max pools), in which order the kernels
run (first ready, first run), and whose memory is used again (`_peak`).

Nothing is compiled: the answer takes a second for a network that compiles in a minute.
"""

import math
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from typing import Any

import jax

from seqlab.accounting.compiled import Step
from seqlab.accounting.operations import inner

FUSED = frozenset(
    ["add", "add_any", "sub", "mul", "div", "rem", "max", "min", "neg", "abs", "sign", "exp", "exp2", "log", "log1p", "expm1", "tanh", "logistic", "erf", "erf_inv", "rsqrt", "sqrt", "cbrt", "square", "integer_pow", "pow", "sin", "cos", "select_n", "eq", "ne", "lt", "le", "gt", "ge", "and", "or", "not", "xor", "convert_element_type", "clamp", "is_finite", "floor", "ceil", "round", "nextafter", "reduce_precision", "copy", "shift_left", "shift_right_logical", "stop_gradient", "broadcast_in_dim", "iota", "pad", "slice", "concatenate", "rev", "dynamic_slice", "split"]
)
"""Computed inside the kernels that read them; memory of their own only if a heavy kernel does."""

VIEWS = frozenset(
    ["reshape", "squeeze", "expand_dims", "bitcast_convert_type", "transpose", "dynamic_update_slice"]
)
"""Another way to read the same memory, folded into the product that reads it, or written in place."""


class _Array:
    """An array of the traced program; `given` if it is there before the program starts."""

    def __init__(self, aval: Any, given: bool = False):
        itemsize = getattr(aval.dtype, "itemsize", 8)  # a random key has none
        self.aval = aval
        self.bytes = math.prod(aval.shape) * itemsize
        self.given = given
        self.made_by: _Node | None = None


class _Node:
    """An operation of the traced program."""

    def __init__(self, name: str, settings: Any, inputs: list[_Array], outputs: list[_Array]):
        self.name = name
        self.settings = settings
        self.inputs = inputs
        self.outputs = outputs
        for output in outputs:
            output.made_by = self


class _Kernel:
    """Something XLA runs as a unit: what it reads, and the memory that its result takes.

    Attributes:
        bytes: of the result.
        reads: kernels whose results it reads.
        workspace: bytes that it needs while it runs.
        in_place: it may write its result over one of the same size that nobody else needs.
    """

    def __init__(
        self, bytes: int, reads: Iterable["_Kernel"], workspace: int = 0, in_place: bool = False
    ):
        self.bytes = bytes
        self.reads = frozenset(reads)
        self.workspace = workspace
        self.in_place = in_place


def predicted_peak(step: Step) -> int:
    """Bytes of arguments, outputs and temporaries at the worst moment, as `Figures.peak`."""
    traced = jax.make_jaxpr(step.function)(*step.arguments)
    given = sum(_Array(var.aval).bytes for var in traced.jaxpr.invars)
    counts = [len(jax.tree.leaves(argument)) for argument in step.arguments]
    first = [sum(counts[:number]) for number in range(len(counts))]
    donated = {i for n in step.donated for i in range(first[n], first[n] + counts[n])}
    return given + _temporaries(traced, donated)


def _temporaries(traced: Any, donated: set[int]) -> int:
    """Bytes beyond the arguments: outputs that overwrite none of them, copies, temporaries."""
    arguments = [_Array(var.aval, given=True) for var in traced.jaxpr.invars]
    nodes: list[_Node] = []
    results = _flatten(traced, arguments, nodes)
    kernels = _Kernels(arguments, _needed(nodes, results), results)
    last = [kernels.result(array) for array in results]
    written = sum(array.bytes for array, kernel in zip(results, last, strict=True) if kernel)
    overwritten = sum(array.bytes for n, array in enumerate(arguments) if n in donated)
    for number, kernel in enumerate(last):
        if number in donated and kernel:
            kernels.copy_if_needed(arguments[number], kernel)
    return max(written - overwritten, 0) + _peak(kernels.all, last)


def _flatten(program: Any, arguments: Sequence[_Array], nodes: list[_Node]) -> list[_Array]:
    """All operations in their order, calls entered; loops stay as they are."""
    known = dict(zip(program.jaxpr.invars, arguments, strict=True))
    for var in program.jaxpr.constvars:
        known[var] = _Array(var.aval, given=True)

    def read(atom: Any) -> _Array:
        return _Array(atom.aval, given=True) if hasattr(atom, "val") else known[atom]

    for eqn in program.jaxpr.eqns:
        inputs = [read(atom) for atom in eqn.invars]
        called = inner(eqn)
        if called is not None:
            outputs = _flatten(called, inputs, nodes)
        elif eqn.primitive.name == "optimization_barrier":
            outputs = [_barrier(array, nodes) for array in inputs]
        else:
            outputs = [_Array(var.aval) for var in eqn.outvars]
            nodes.append(_Node(eqn.primitive.name, eqn.params, inputs, outputs))
        known |= zip(eqn.outvars, outputs, strict=True)
    return [read(atom) for atom in program.jaxpr.outvars]


def _barrier(array: _Array, nodes: list[_Node]) -> _Array:
    """What nothing is fused across is written down, once."""
    if array.given:
        return array
    output = _Array(array.aval)
    nodes.append(_Node("optimization_barrier", {}, [array], [output]))
    return output


def _needed(nodes: list[_Node], results: list[_Array]) -> list[_Node]:
    wanted, kept = {id(array) for array in results}, []
    for node in reversed(nodes):
        if any(id(output) in wanted for output in node.outputs):
            kept.append(node)
            wanted |= {id(array) for array in node.inputs}
    return kept[::-1]


class _Kernels:
    """The kernels that XLA makes of the operations, for a CPU."""

    def __init__(self, arguments: list[_Array], nodes: list[_Node], results: list[_Array]):
        self._given = {array: _Kernel(0, ()) for array in arguments}
        self.all = list(self._given.values())
        self._of: dict[_Array, _Kernel] = {}
        self._behind: dict[_Array, frozenset[_Kernel]] = {}
        self._laid: dict[tuple[_Array, str], _Kernel] = {}
        self._results = {_seen_through(array) for array in results}
        for node in nodes:
            if node.name not in FUSED | VIEWS:
                self._heavy(node)

    def result(self, array: _Array) -> _Kernel | None:
        """The kernel that writes an output of the program; None if it is an argument."""
        array = _seen_through(array)
        if array.given:
            return None  # an argument handed through
        if array not in self._of:
            self._of[array] = self._new(array.bytes, self._inputs_behind(array), in_place=True)
        return self._of[array]

    def _new(self, bytes: int, reads: Iterable[_Kernel], **how: Any) -> _Kernel:
        self.all.append(_Kernel(bytes, reads, **how))
        return self.all[-1]

    def _heavy(self, node: _Node) -> None:
        if node.name.startswith("reduce_") and "axes" in node.settings:
            reads = {kernel for array in node.inputs for kernel in self._summed(array)}
            self._of[node.outputs[0]] = self._new(node.outputs[0].bytes, reads)
        elif node.name == "conv_general_dilated":
            self._convolution(node)
        elif node.name == "select_and_scatter_add":
            self._max_pool_gradient(node)
        elif node.name in ("scan", "while"):
            self._loop(node)
        elif node.name == "optimization_barrier":
            (array,), (output,) = node.inputs, node.outputs
            (self._of[output],) = self._in_order(array)
        else:
            reads = {kernel for array in node.inputs for kernel in self._written(array)}
            for output in node.outputs:
                self._of[output] = self._new(output.bytes, reads)

    def _behind_of(self, array: _Array) -> frozenset[_Kernel]:
        """The results that have to be there to compute an array element by element."""
        array = _seen_through(array)
        if array.given:
            return self._from_argument(array)
        if array not in self._behind:
            node = array.made_by
            assert node is not None
            if node.name in FUSED and array not in self._results:
                self._behind[array] = self._inputs_behind(array)
            elif node.name in FUSED:
                self._behind[array] = self._written(array)
            else:
                self._behind[array] = frozenset([self._of[array]])
        return self._behind[array]

    def _from_argument(self, array: _Array) -> frozenset[_Kernel]:
        return frozenset([self._given[array]]) if array in self._given else frozenset()

    def copy_if_needed(self, argument: _Array, update: _Kernel) -> None:
        """Give a donated argument memory of its own if something reads it that its update does not
        wait for: XLA does not order the two.
        """
        before, ahead = {update}, [update]
        while ahead:
            new = ahead.pop().reads - before
            before |= new
            ahead += new
        given = self._given[argument]
        if any(given in kernel.reads and kernel not in before for kernel in self.all):
            given.bytes = argument.bytes

    def _inputs_behind(self, array: _Array) -> frozenset[_Kernel]:
        assert array.made_by is not None
        return frozenset().union(*(self._behind_of(a) for a in array.made_by.inputs))

    def _written(self, array: _Array) -> frozenset[_Kernel]:
        """The kernel that writes an array down for one that cannot compute it on the way."""
        array = _seen_through(array)
        if array.given:
            return self._from_argument(array)
        if array not in self._of:
            self._of[array] = self._new(array.bytes, self._inputs_behind(array), in_place=True)
        return frozenset([self._of[array]])

    def _in_order(self, array: _Array) -> frozenset[_Kernel]:
        """The same, for one that reads along the axes as they are: transposed is copied first."""
        turned = array
        while turned.made_by is not None and turned.made_by.name in VIEWS:
            if turned.made_by.name == "transpose":
                return frozenset([self._laid_out(array, "in order")])
            turned = turned.made_by.inputs[0]
        if turned.made_by is not None and turned.made_by.name == "gather":  # its axes come first
            return frozenset([self._laid_out(array, "in order")])
        return self._written(array)

    def _summed(self, array: _Array) -> frozenset[_Kernel]:
        """A sum computes one product of its inputs on the way, and no more."""
        array = _seen_through(array)
        node = array.made_by
        if node is None or node.name not in ("mul", "square", "integer_pow"):
            return self._written(array)
        reads: frozenset[_Kernel] = frozenset()
        for factor in node.inputs:
            factor = _seen_through(factor)
            made_by = factor.made_by
            is_broadcast = made_by is not None and made_by.name == "broadcast_in_dim"
            reads |= self._behind_of(factor) if is_broadcast else self._written(factor)
        return reads

    def _convolution(self, node: _Node) -> None:
        """The gradient of a kernel contracts the batch: both sides are first laid out for that."""
        image, kernel = node.inputs
        (output,) = node.outputs
        if node.settings["dimension_numbers"].lhs_spec[0] != 0:
            reads = {self._laid_out(side, "batch last") for side in (image, kernel)}
            self._of[output] = self._new(output.bytes, [self._new(output.bytes, reads)])
            return
        made_by = _seen_through(kernel).made_by
        is_flipped = made_by is not None and made_by.name == "rev"
        reads = {self._laid_out(kernel, "flipped")} if is_flipped else self._written(kernel)
        reads |= self._in_order(image)
        self._of[output] = self._new(output.bytes, reads)

    def _loop(self, node: _Node) -> None:
        """What a loop carries is written over what it began with; the rest is there to the end."""
        reads = [self._in_order(array) for array in node.inputs]
        if node.name == "scan":
            body, first = node.settings["jaxpr"], node.settings["num_consts"]
            num_carried = node.settings["num_carry"]
        else:
            body, num_carried = node.settings["body_jaxpr"], len(node.outputs)
            first = node.settings["cond_nconsts"] + node.settings["body_nconsts"]
        everything = frozenset().union(*reads)
        rounds = self._new(0, everything, workspace=_temporaries(body, set()))
        for number, output in enumerate(node.outputs):
            began = reads[first + number] if number < num_carried else frozenset()
            self._of[output] = self._new(output.bytes, {rounds, *began}, in_place=True)
        carried = frozenset().union(*reads[first : first + num_carried])
        self._new(0, {*(everything - carried), *(self._of[output] for output in node.outputs)})

    def _laid_out(self, array: _Array, how: str) -> _Kernel:
        """A copy with another layout, one for each way."""
        array = _seen_through(array)
        if (array, how) not in self._laid:
            self._laid[array, how] = self._new(array.bytes, self._behind_of(array))
        return self._laid[array, how]

    def _max_pool_gradient(self, node: _Node) -> None:
        """Where each maximum was: a 32-bit index for each axis, of the inputs and of the outputs."""
        source, pooled = node.inputs
        (output,) = node.outputs
        shape = pooled.aval.shape
        padded = [n + sum(p) for n, p in zip(shape, node.settings["padding"], strict=True)]
        is_padded = padded != list(shape)
        num_axes = sum(length > 1 for length in shape)
        bytes = math.prod(padded) * pooled.bytes // math.prod(shape)
        reads = {self._new(4 * math.prod(padded), ()) for _ in range(num_axes)}
        zeros = self._new(bytes, ())
        if is_padded:
            reads |= {self._new(bytes, ()), self._new(bytes, self._behind_of(pooled))}
        else:
            reads |= self._written(pooled)
        indices = 4 * math.prod(source.aval.shape)
        found = self._new(source.bytes + num_axes * indices, reads)
        joined = self._new(4 * indices, [found])
        reads = {joined, zeros, *self._written(source)}
        scattered = self._new(bytes, reads, in_place=True)
        self._of[output] = scattered


def _seen_through(array: _Array) -> _Array:
    while array.made_by is not None and array.made_by.name in VIEWS:
        array = array.made_by.inputs[0]
    return array


def _peak(kernels: list[_Kernel], last: Sequence[_Kernel | None]) -> int:
    """The most bytes alive at once, outputs apart.

    An output's memory is free until the output is written, so arrays that fit and are dead by then
    are put there, the largest first.
    """
    order = _first_ready(kernels)
    born = {kernel: time for time, kernel in enumerate(order)}
    dies = dict(born)
    for kernel in order:
        for source in kernel.reads:
            dies[source] = max(dies[source], born[kernel])
    outputs = [kernel for kernel in last if kernel is not None]
    is_output = set(outputs)
    spans: list[tuple[int, int, int]] = []  # bytes, born, dies
    started = dict(born)
    for kernel in order:  # written over what it reads: one array that lives longer
        if kernel.in_place:
            for source in kernel.reads:
                if source.bytes == kernel.bytes and dies[source] == born[kernel]:
                    if source in is_output or started[source] < 0 or not source.reads:
                        continue
                    started[kernel], started[source] = started[source], -1
                    break
    room_spans = {kernel: [(started[kernel], len(order))] for kernel in outputs}
    by_size = sorted(is_output, key=lambda kernel: kernel.bytes)
    for kernel in sorted(order, key=lambda kernel: (-kernel.bytes, -born[kernel])):
        if kernel in is_output or started[kernel] < 0:
            continue
        span = (started[kernel], dies[kernel])
        room = next(
            (
                room
                for room in by_size
                if room.bytes >= kernel.bytes
                and all(span[1] < start or end < span[0] for start, end in room_spans[room])
            ),
            None,
        )
        if room is None:
            spans.append((kernel.bytes, *span))
        else:
            room_spans[room].append(span)
    changes: dict[int, int] = defaultdict(int)
    for bytes, start, end in spans:
        changes[start] += bytes
        changes[end + 1] -= bytes
    for kernel in order:
        changes[born[kernel]] += kernel.workspace
        changes[born[kernel] + 1] -= kernel.workspace
    alive = peak = 0
    for time in sorted(changes):
        alive += changes[time]
        peak = max(peak, alive)
    return peak


def _first_ready(kernels: list[_Kernel]) -> list[_Kernel]:
    """XLA's order for concurrency: a queue of the kernels whose inputs are there."""
    readers: dict[_Kernel, list[_Kernel]] = defaultdict(list)
    missing = {kernel: len(kernel.reads) for kernel in kernels}
    for kernel in kernels:
        for source in kernel.reads:
            readers[source].append(kernel)
    queue = deque(kernel for kernel in kernels if not missing[kernel])
    order = []
    while queue:
        kernel = queue.popleft()
        order.append(kernel)
        for reader in readers[kernel]:
            missing[reader] -= 1
            if not missing[reader]:
                queue.append(reader)
    return order
