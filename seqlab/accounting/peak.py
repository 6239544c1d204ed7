"""The order in which kernels run, and how much of what they write is alive at once."""

from collections import defaultdict, deque
from collections.abc import Sequence

from seqlab.accounting.kernels import Kernel


def peak(kernels: list[Kernel], outputs: Sequence[Kernel], rooms: Sequence[Kernel]) -> int:
    """The most bytes alive at once, outputs apart.

    Args:
        kernels: of the program.
        outputs: those that write its outputs.
        rooms: those of them whose memory is free before: arrays that fit and are dead by the time
            the output is written are put there, the largest first.
    """
    order = _first_ready(kernels)
    born = {kernel: time for time, kernel in enumerate(order)}
    dies = dict(born)
    for kernel in order:
        for source in kernel.reads:
            dies[source] = max(dies[source], born[kernel])
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
    room_spans = {kernel: [(started[kernel], len(order))] for kernel in rooms}
    by_size = sorted(room_spans, key=lambda kernel: kernel.bytes)
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
    alive = most = 0
    for time in sorted(changes):
        alive += changes[time]
        most = max(most, alive)
    return most


def _first_ready(kernels: list[Kernel]) -> list[Kernel]:
    """XLA's order for concurrency: a queue of the kernels whose inputs are there."""
    readers: dict[Kernel, list[Kernel]] = defaultdict(list)
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
