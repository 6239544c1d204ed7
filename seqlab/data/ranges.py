"""The check that numbers in a configuration are possible."""

from seqlab.errors import InputError


def check_range(low: int, high: int | None = None, **fields: int) -> None:
    """Raise InputError for the first field below `low` or above `high`."""
    for name, value in fields.items():
        if value < low or (high is not None and value > high):
            allowed = f"{low} or more" if high is None else f"from {low} to {high}"
            raise InputError(f"{name} must be {allowed}, not {value}.")


def check_splits(train_size: int, valid_size: int, test_size: int, seed: int) -> None:
    """Raise InputError where a split of a synthetic task would be empty or the seed is no seed."""
    check_range(1, train_size=train_size, valid_size=valid_size, test_size=test_size)
    check_range(0, 2**32 - 1, seed=seed)
