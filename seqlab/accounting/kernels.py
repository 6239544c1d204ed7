"""What XLA for CPUs runs as a unit, and what each unit reads and writes."""

import math
from collections.abc import Callable, Iterable
from typing import Any

from seqlab.accounting.graph import VIEWS, Array, Node, seen_through

_ELEMENT_WISE = """
    add add_any sub mul div rem max min neg abs sign exp exp2 log log1p expm1 tanh logistic erf
    erf_inv rsqrt sqrt cbrt square integer_pow pow sin cos select_n eq ne lt le gt ge and or not xor
    convert_element_type clamp is_finite floor ceil round nextafter copy reduce_precision
    shift_left shift_right_logical stop_gradient
"""
_INDEXED = "broadcast_in_dim iota pad slice concatenate rev dynamic_slice split"

FUSED = frozenset([*_ELEMENT_WISE.split(), *_INDEXED.split()])
"""Computed inside the kernels that read them; memory of their own only if a heavy kernel does."""


class Kernel:
    """Something XLA runs as a unit: what it reads, and the memory that its result takes.

    Attributes:
        bytes: of the result.
        reads: kernels whose results it reads.
        workspace: bytes that it needs while it runs.
        in_place: it may write its result over one of the same size that nobody else needs.
    """

    def __init__(
        self, bytes: int, reads: Iterable["Kernel"], workspace: int = 0, in_place: bool = False
    ):
        self.bytes = bytes
        self.reads = frozenset(reads)
        self.workspace = workspace
        self.in_place = in_place


class Kernels:
    """The kernels that XLA makes of the operations, for a CPU."""

    def __init__(
        self,
        arguments: list[Array],
        nodes: list[Node],
        results: list[Array],
        workspace: Callable[[Any], int],
    ):
        self._given = {array: Kernel(0, ()) for array in arguments}
        self.all = list(self._given.values())
        self._workspace = workspace
        self._of: dict[Array, Kernel] = {}
        self._behind: dict[Array, frozenset[Kernel]] = {}
        self._laid: dict[tuple[Array, str], Kernel] = {}
        self._results = {seen_through(array) for array in results}
        for node in nodes:
            if node.name not in FUSED | VIEWS:
                self._heavy(node)

    def result(self, array: Array) -> Kernel | None:
        """The kernel that writes an output of the program; None if it is an argument."""
        array = seen_through(array)
        if array.given:
            return None  # an argument handed through
        if array not in self._of:
            self._of[array] = self._new(array.bytes, self._inputs_behind(array), in_place=True)
        return self._of[array]

    def _new(self, bytes: int, reads: Iterable[Kernel], **how: Any) -> Kernel:
        self.all.append(Kernel(bytes, reads, **how))
        return self.all[-1]

    def _heavy(self, node: Node) -> None:
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

    def _behind_of(self, array: Array) -> frozenset[Kernel]:
        """The results that have to be there to compute an array element by element."""
        array = seen_through(array)
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

    def _from_argument(self, array: Array) -> frozenset[Kernel]:
        return frozenset([self._given[array]]) if array in self._given else frozenset()

    def copy_if_needed(self, argument: Array, update: Kernel) -> bool:
        """Give a donated argument memory of its own if something reads it that its update does not
        wait for: XLA does not order the two. Returns whether it is so.
        """
        before, ahead = {update}, [update]
        while ahead:
            new = ahead.pop().reads - before
            before |= new
            ahead += new
        given = self._given[argument]
        if any(given in kernel.reads and kernel not in before for kernel in self.all):
            given.bytes = argument.bytes
        return given.bytes > 0

    def _inputs_behind(self, array: Array) -> frozenset[Kernel]:
        assert array.made_by is not None
        return frozenset().union(*(self._behind_of(a) for a in array.made_by.inputs))

    def _written(self, array: Array) -> frozenset[Kernel]:
        """The kernel that writes an array down for one that cannot compute it on the way."""
        array = seen_through(array)
        if array.given:
            return self._from_argument(array)
        if array not in self._of:
            self._of[array] = self._new(array.bytes, self._inputs_behind(array), in_place=True)
        return frozenset([self._of[array]])

    def _in_order(self, array: Array) -> frozenset[Kernel]:
        """The same, for one that reads along the axes as they are: transposed is copied first."""
        turned = array
        while turned.made_by is not None and turned.made_by.name in VIEWS:
            if turned.made_by.name == "transpose":
                return frozenset([self._laid_out(array, "in order")])
            turned = turned.made_by.inputs[0]
        if turned.made_by is not None and turned.made_by.name == "gather":  # its axes come first
            return frozenset([self._laid_out(array, "in order")])
        return self._written(array)

    def _summed(self, array: Array) -> frozenset[Kernel]:
        """A sum computes one product of its inputs on the way, and no more."""
        array = seen_through(array)
        node = array.made_by
        if node is None or node.name not in ("mul", "square", "integer_pow"):
            return self._written(array)
        reads: frozenset[Kernel] = frozenset()
        for factor in node.inputs:
            factor = seen_through(factor)
            made_by = factor.made_by
            is_broadcast = made_by is not None and made_by.name == "broadcast_in_dim"
            reads |= self._behind_of(factor) if is_broadcast else self._written(factor)
        return reads

    def _convolution(self, node: Node) -> None:
        """The gradient of a kernel contracts the batch: both sides are first laid out for that."""
        image, kernel = node.inputs
        (output,) = node.outputs
        if node.settings["dimension_numbers"].lhs_spec[0] != 0:
            reads = {self._laid_out(side, "batch last") for side in (image, kernel)}
            self._of[output] = self._new(output.bytes, [self._new(output.bytes, reads)])
            return
        made_by = seen_through(kernel).made_by
        is_flipped = made_by is not None and made_by.name == "rev"
        reads = {self._laid_out(kernel, "flipped")} if is_flipped else self._written(kernel)
        reads |= self._in_order(image)
        self._of[output] = self._new(output.bytes, reads)

    def _loop(self, node: Node) -> None:
        """What a loop carries is written over what it began with; the rest is there to the end."""
        reads = [self._in_order(array) for array in node.inputs]
        if node.name == "scan":
            body, first = node.settings["jaxpr"], node.settings["num_consts"]
            num_carried = node.settings["num_carry"]
        else:
            body, num_carried = node.settings["body_jaxpr"], len(node.outputs)
            first = node.settings["cond_nconsts"] + node.settings["body_nconsts"]
        everything = frozenset().union(*reads)
        rounds = self._new(0, everything, workspace=self._workspace(body))
        for number, output in enumerate(node.outputs):
            began = reads[first + number] if number < num_carried else frozenset()
            self._of[output] = self._new(output.bytes, {rounds, *began}, in_place=True)
        carried = frozenset().union(*reads[first : first + num_carried])
        self._new(0, {*(everything - carried), *(self._of[output] for output in node.outputs)})

    def _laid_out(self, array: Array, how: str) -> Kernel:
        """A copy with another layout, one for each way."""
        array = seen_through(array)
        if (array, how) not in self._laid:
            self._laid[array, how] = self._new(array.bytes, self._behind_of(array))
        return self._laid[array, how]

    def _max_pool_gradient(self, node: Node) -> None:
        """Where each maximum was: an index of 32 bits for each axis, of inputs and of outputs."""
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
