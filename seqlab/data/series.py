"""Time series of one value: windows of the past, and the value to be predicted from each.

The series are of the Time Series Data Library, whose copies state no licence: they are read, never
passed on.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from seqlab.data import prepared
from seqlab.data.examples import Examples, Ragged
from seqlab.data.files import Original
from seqlab.data.ranges import check_range
from seqlab.errors import InputError, nearest


@dataclass(frozen=True)
class TimeSeries:
    """Which series: airline, sunspots, temperatures or births.

    `window` values are given, and the one that comes `horizon` steps after the last of them is to
    be predicted.
    """

    name: str = "airline"
    window: int = 12
    horizon: int = 1

    def __post_init__(self):
        if self.name not in SERIES:
            raise InputError(f"no time series {self.name!r}.{nearest(self.name, SERIES)}")
        last = _ends(SERIES[self.name].values)[0] - 1  # what may be predicted in train
        check_range(1, last, horizon=self.horizon)
        check_range(1, last - self.horizon + 1, window=self.window)


class SeriesDataset(NamedTuple):
    """Three splits and the scale of their numbers.

    Attributes:
        train, valid, test: inputs float32 [M * window, 1], sequences of equal length; targets
            float32 [M, 1]; both as (value - mean) / std. A root mean square error times `std` is in
            the unit of the series.
        mean, std: of the values of train.
        unit: what is measured, and how often.
    """

    train: Examples
    valid: Examples
    test: Examples
    mean: float
    std: float
    unit: str


class Series(NamedTuple):
    """What is known of a series before it is loaded; `values` is how many it has."""

    source: prepared.Source
    unit: str
    values: int


def load(config: TimeSeries) -> SeriesDataset:
    """The first 70 % of the values are predicted in train, then 15 in valid and 15 in test.

    Every value that has a whole window before it is predicted once; the first windows of valid and
    of test reach back into the split before, whose values are known by then.

    Raises:
        InputError: the data is not there or is damaged; names the command that prepares it.

    Source: Box and Jenkins 1976 (airline), Andrews and Herzberg 1985 (sunspots), the Australian
        Bureau of Meteorology (temperatures), Newton 1988 (births).
    """
    series = SERIES[config.name]
    values = prepared.load(series.source).joined("published")["values"]
    ends = _ends(len(values))
    mean, std = float(values[: ends[0]].mean()), float(values[: ends[0]].std())
    scaled = ((values - mean) / std).astype(np.float32)

    first = config.window + config.horizon - 1
    windows = np.lib.stride_tricks.sliding_window_view(scaled, config.window)
    predicted = scaled[first:]
    splits = []
    for rows in np.split(np.arange(len(predicted)), np.array(ends) - first):
        lengths = np.full(len(rows), config.window, np.int32)
        inputs = Ragged(windows[rows].reshape(-1, 1), lengths)
        splits.append(Examples(inputs, predicted[rows, None]))
    return SeriesDataset(*splits, mean=mean, std=std, unit=series.unit)


def check(config: TimeSeries) -> None:
    """Raise the InputError that `load` would raise, before any work has started."""
    prepared.check(SERIES[config.name].source)


def _ends(values: int) -> tuple[int, int]:
    return values * 70 // 100, values * 85 // 100


def _parse(csv: bytes) -> prepared.Records:
    rows = csv.decode().split()[1:]  # under a headline, "1949-01",112
    values = np.array([float(row.partition(",")[2]) for row in rows])
    return prepared.Records({"published": [{"values": values}]}, symbols=())


_URL = (
    "https://raw.githubusercontent.com/jbrownlee/Datasets/d20fcb6402ae34e653d4513b00f39257bb37ed7f/"
)


def _series(name: str, file: str, size: int, sha256: str, unit: str, values: int) -> Series:
    original = Original(f"time_series/{file}", size, sha256, _URL + file)
    return Series(prepared.Source(name, (original,), _parse, unit="values"), unit, values)


_SERIES = (
    _series(
        "airline",
        "monthly-airline-passengers.csv",
        2_180,
        "8cb51be753a718d9be5d76d7e238cc224792754676adc21faa59e954b0201621",
        "thousand passengers a month",
        144,
    ),
    _series(
        "sunspots",
        "monthly-sunspots.csv",
        45_039,
        "c4ec8cc57d9f6fb6ecdb3e1f37f25b6f4badd5124c55931052b0cd2fc3bc71f3",
        "sunspot number, monthly mean",
        2_820,
    ),
    _series(
        "temperatures",
        "daily-min-temperatures.csv",
        67_921,
        "8b9de63ed6789492bf497625e7f9beb96a63d367b4b0a21754006f749fa5e5da",
        "°C, minimum of a day",
        3_650,
    ),
    _series(
        "births",
        "daily-total-female-births.csv",
        6_220,
        "7a0c1bdb32d68f7fa359e561a4f7e1fe8fb2fc26a1ea624a434a97a63735dd72",
        "girls born a day",
        365,
    ),
)
SERIES = {series.source.name: series for series in _SERIES}
SOURCES = {name: series.source for name, series in SERIES.items()}
