"""The largest batch that fits, against trying every batch."""

import pytest

from seqlab.accounting.batches import largest_batch


@pytest.mark.parametrize(
    "peak",
    [
        lambda b: 100 + 7 * b,
        lambda b: 7 * b + b // 16 * 90,
        lambda b: max(1000, 20 * b),
        lambda b: b * b,
        lambda b: 300 + 10 * (b + 63) // 64 * 64,
    ],
    ids=["line", "steps", "flat, then a line", "square", "blocks"],
)
@pytest.mark.parametrize("limit", [0, 100, 107, 300, 999, 1000, 5000, 123_456])
@pytest.mark.parametrize("guess", [None, 1, 40, 9999])
def test_equals_trying_all(peak, limit, guess):
    batch = 0
    while peak(batch + 1) <= limit:
        batch += 1
    assert largest_batch(peak, limit, guess) == batch


def test_asks_little_where_memory_is_a_line():
    asked = []

    def peak(batch):
        asked.append(batch)
        return 5_000_000 + 12_345 * batch

    largest_batch(peak, 10**9)
    assert len(asked) <= 6
