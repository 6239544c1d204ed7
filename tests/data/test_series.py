"""Windows of time series against the published values, read apart from the code under test."""

import statistics

import numpy as np
import pytest
from small_texts import content

from seqlab import data
from seqlab.data import TimeSeries
from seqlab.errors import InputError

FILES = {
    "airline": "monthly-airline-passengers.csv",
    "sunspots": "monthly-sunspots.csv",
    "temperatures": "daily-min-temperatures.csv",
    "births": "daily-total-female-births.csv",
}
SIZES = {"airline": 144, "sunspots": 2_820, "temperatures": 3_650, "births": 365}


def values(texts, name: str) -> list[float]:
    lines = content(texts, f"time_series/{FILES[name]}").decode().splitlines()[1:]
    return [float(line.split('",')[1]) for line in lines]


@pytest.mark.parametrize(("window", "horizon"), [(12, 1), (1, 1), (5, 3)])
@pytest.mark.parametrize("name", FILES)
def test_every_value_after_a_window_is_predicted_once(name, window, horizon, texts, is_published):
    dataset = data.load(TimeSeries(name, window, horizon))
    published = values(texts, name)
    if is_published:
        assert len(published) == SIZES[name]
    ends = [len(published) * percent // 100 for percent in (70, 85, 100)]
    assert dataset.mean == pytest.approx(statistics.fmean(published[: ends[0]]), rel=1e-12)
    assert dataset.std == pytest.approx(statistics.pstdev(published[: ends[0]]), rel=1e-12)
    place = window + horizon - 1
    for examples, end in zip(dataset[:3], ends, strict=True):
        assert examples.inputs.lengths.tolist() == [window] * (end - place)
        assert examples.inputs.values.shape == (window * (end - place), 1)
        assert examples.targets.shape == (end - place, 1)
        assert examples.inputs.values.dtype == examples.targets.dtype == np.float32
        windows = examples.inputs.values.reshape(-1, window) * dataset.std + dataset.mean
        for given, target in zip(windows, examples.targets[:, 0], strict=True):
            first = place - horizon - window + 1
            expected = published[first : first + window]
            np.testing.assert_allclose(given, expected, rtol=2e-6, atol=1e-4)
            predicted = target * dataset.std + dataset.mean
            np.testing.assert_allclose(predicted, published[place], rtol=2e-6, atol=1e-4)
            place += 1
    assert place == len(published)


def test_what_cannot_be_is_refused(texts):
    with pytest.raises(InputError, match=r"^no time series 'airlines'. Did you mean 'airline'\?"):
        TimeSeries("airlines")
    limit = len(values(texts, "airline")) * 70 // 100 - 1
    TimeSeries("airline", limit, 1)
    TimeSeries("airline", 1, limit)
    for window, horizon in ((limit + 1, 1), (limit, 2), (0, 1), (1, 0), (1, limit + 1)):
        with pytest.raises(InputError, match=r"^(window|horizon) must be from 1 to "):
            TimeSeries("airline", window, horizon)
