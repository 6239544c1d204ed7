"""The largest batch that fits."""

from collections.abc import Callable


def largest_batch(peak: Callable[[int], int], limit: int, guess: int | None = None) -> int:
    """The largest B with peak(B) ≤ limit, for a peak that grows with B; 0 if not even one fits.

    Memory is nearly linear in B, so the line through two batches finds it in few evaluations, which
    matters where each is a compilation.

    Args:
        peak: bytes for a batch.
        limit: bytes that there are.
        guess: where to begin to ask.
    """
    known: dict[int, int] = {}

    def asked(batch: int) -> int:
        if batch not in known:
            known[batch] = peak(batch)
        return known[batch]

    if asked(1) > limit:
        return 0
    fits, too_many = 1, None
    batch = max(guess or 8, 2)
    while too_many is None or too_many - fits > 1:
        if asked(batch) <= limit:
            fits = max(fits, batch)
        else:
            too_many = batch if too_many is None else min(too_many, batch)
        other = too_many or 1
        slope = (asked(other) - asked(fits)) / (other - fits) if other != fits else asked(1)
        batch = fits + int((limit - asked(fits)) / max(slope, 1))
        if batch <= fits:
            batch = fits + 1
        if too_many is not None:
            batch = min(batch, too_many - 1)
    return fits
