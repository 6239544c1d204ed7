"""Peak memory of a traced program, predicted: what XLA keeps, in the order in which it runs.

Four things decide how much is alive at once, and each is imitated here as XLA does it for CPUs:
which arrays get memory of their own (`kernels.py`: element-wise operations are fused into all that
read them, convolutions and products are not); what else the way of computing takes (copies with
another layout for the gradients of convolutions, index arrays for those of max pools); in which
order the kernels run (first ready, first run); and whose memory is used again (`peak.py`).

Nothing is compiled: the answer takes a second or so for a network that compiles in half a minute.
"""

from typing import Any

import jax

from seqlab.accounting.compiled import Step
from seqlab.accounting.graph import Array, Node, flatten, needed
from seqlab.accounting.kernels import Kernels
from seqlab.accounting.peak import peak


def predicted_peak(step: Step) -> int:
    """Bytes of arguments, outputs and temporaries at the worst moment, as `Figures.peak`."""
    traced = jax.make_jaxpr(step.function)(*step.arguments)
    given = sum(Array(var.aval).bytes for var in traced.jaxpr.invars)
    counts = [len(jax.tree.leaves(argument)) for argument in step.arguments]
    first = [sum(counts[:number]) for number in range(len(counts))]
    donated = {i for n in step.donated for i in range(first[n], first[n] + counts[n])}
    return given + _temporaries(traced, donated)


def _temporaries(traced: Any, donated: set[int]) -> int:
    """Bytes beyond the arguments: outputs that overwrite none of them, copies, temporaries."""
    arguments = [Array(var.aval, given=True) for var in traced.jaxpr.invars]
    nodes: list[Node] = []
    results = flatten(traced, arguments, nodes)
    kernels = Kernels(
        arguments, needed(nodes, results), results, lambda body: _temporaries(body, set())
    )
    last = [kernels.result(array) for array in results]
    written = sum(array.bytes for array, kernel in zip(results, last, strict=True) if kernel)
    overwritten = sum(array.bytes for n, array in enumerate(arguments) if n in donated)
    rooms = [
        kernel
        for number, kernel in enumerate(last)
        if kernel and (number not in donated or kernels.copy_if_needed(arguments[number], kernel))
    ]
    outputs = [kernel for kernel in last if kernel]
    return max(written - overwritten, 0) + peak(kernels.all, outputs, rooms)
