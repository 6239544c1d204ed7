"""Every number in a figure is that of an independent computation on the same results."""

import itertools
import json
import math
import re
import statistics
import struct
import xml.etree.ElementTree

import matplotlib
import numpy as np
import pytest
import scipy.stats
from invented import CELLS, NORMS, RATES, commit, curve, grid, loss
from matplotlib.collections import FillBetweenPolyCollection

from seqlab import figures, plots, results
from seqlab.errors import InputError
from seqlab.figures import best_of, chart, curves, differences, interactive, runs, settings, still
from seqlab.trial import replace

NAME = "mut_vs_lstm_gru"
BY = "model.cell"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two tasks; on the second, one trial diverged and one failed."""
    folder = tmp_path_factory.mktemp("results")
    for trial in grid("xml"):
        commit(folder, trial)
    for number, trial in enumerate(grid("arithmetic")):
        troubles = {0: results.DIVERGED, 9: results.FAILED}
        commit(folder, trial, troubles.get(number, results.DONE))
    return folder


@pytest.fixture(scope="module")
def rows(root):
    return results.rows(root, NAME)


def half_width(values: list[float]) -> float:
    quantile = scipy.stats.t.ppf(0.975, len(values) - 1)
    return quantile * statistics.stdev(values) / math.sqrt(len(values))


# The best of k


@pytest.mark.parametrize("n", range(1, 8))
def test_expected_best_is_the_mean_over_all_subsets(n):
    rng = np.random.default_rng(n)
    for lost in range(n):
        valid = [None if i < lost else float(v) for i, v in enumerate(rng.normal(size=n))]
        shown = rng.normal(size=n).tolist()
        found = best_of.expected_best(valid, shown)
        for k in range(1, n + 1):
            best = [
                shown[min(done)[1]]
                for subset in itertools.combinations(range(n), k)
                if (done := [(valid[i], i) for i in subset if valid[i] is not None])
            ]
            assert found[k - 1] == pytest.approx(statistics.fmean(best), rel=1e-12)


def test_expected_best_of_a_thousand_falls_from_the_mean_to_the_best():
    valid = np.random.default_rng(0).normal(size=1000).tolist()
    found = best_of.expected_best(valid, valid)
    assert found == sorted(found, reverse=True)
    assert found[0] == pytest.approx(statistics.fmean(valid), rel=1e-9)
    assert found[-1] == pytest.approx(min(valid))


def test_the_best_of_nothing_is_not_defined():
    with pytest.raises(ValueError, match="no finished trial"):
        best_of.expected_best([None, None], [1.0, 2.0])


def test_the_chart_of_best_of_k_counts_what_came_to_nothing(rows):
    drawn = best_of.chart(runs.flat(rows), BY, "test_nll")
    assert drawn is not None
    lengths = {p.title: {s.name: len(s.x) for s in p.series} for p in drawn.panels}
    tried = len(RATES) * len(NORMS)
    assert lengths == {task: dict.fromkeys(CELLS, tried) for task in ("arithmetic", "xml")}
    for panel in drawn.panels:
        for series in panel.series:
            trials = [t for t in grid(panel.title) if t.model.cell == series.name]
            best = min(loss(t) for t in trials if t.stage == "search")
            assert series.y[-1] == pytest.approx(best)


# Learning curves


def test_a_learning_curve_is_the_mean_over_the_seeds_of_the_best_known_setting(root, rows):
    drawn = curves.chart(runs.flat(rows), root / NAME, BY, "test_nll")
    assert drawn is not None
    assert [panel.title for panel in drawn.panels] == ["arithmetic", "xml"]
    for panel in drawn.panels:
        assert panel.y == "valid_nll, nats"
        assert {series.name for series in panel.series} == set(CELLS)
        for series in panel.series:
            seeds = [t for t in grid(panel.title) if t.stage == "seeds"]
            found = [curve(t) for t in seeds if t.model.cell == series.name]
            steps = [100, 200, 300, 400, 500]  # one more of the second seed alone
            assert list(series.x) == steps
            for step, y, width in zip(steps, series.y, series.half_widths, strict=True):
                values = [each[step] for each in found]
                assert y == pytest.approx(statistics.fmean(values))
                assert width == pytest.approx(half_width(values))


def test_without_seeds_the_curve_is_that_of_the_best_setting_and_has_no_interval(root, rows):
    search = [r for r in rows if r["config"]["stage"] == "search" and r["config"]["task"] == "xml"]
    drawn = curves.chart(runs.flat(search), root / NAME, BY, "valid_nll")
    assert drawn is not None
    for series in drawn.panels[0].series:
        trials = [t for t in grid() if t.model.cell == series.name and t.stage == "search"]
        best = curve(min(trials, key=loss))
        assert series.x == tuple(best)
        assert series.y == pytest.approx(tuple(best.values()))
        assert set(series.half_widths) == {None}


def test_where_there_are_no_logs_there_are_no_curves(tmp_path, rows):
    assert curves.chart(runs.flat(rows), tmp_path, BY, "test_nll") is None


# A metric against what was varied


def test_each_mean_is_over_the_search_trials_of_one_value(rows):
    drawn = {c.name: c for c in settings.charts(runs.flat(rows), BY, "test_nll")}
    assert sorted(drawn) == ["settings_optim_clip_norm", "settings_optim_learning_rate"]
    rates = drawn["settings_optim_learning_rate"]
    panel = rates.panels[1]
    assert (panel.title, panel.logarithmic) == ("xml", True)
    assert not drawn["settings_optim_clip_norm"].panels[1].logarithmic
    for series in panel.series:
        assert series.x == RATES
        for rate, y, width in zip(RATES, series.y, series.half_widths, strict=True):
            values = [
                loss(t)
                for t in grid()
                if t.model.cell == series.name
                and t.stage == "search"
                and t.optim.learning_rate == rate
            ]
            assert y == pytest.approx(statistics.fmean(values))
            assert width == pytest.approx(half_width(values))
            assert sorted(d.y for d in series.dots if d.x == rate) == pytest.approx(sorted(values))


def test_a_field_that_some_trials_have_not_is_a_category(tmp_path):
    for rate in (None, 0.2):
        commit(tmp_path, replace(grid()[0], {"optim.dropout_rate": rate}))
    found = runs.flat(results.rows(tmp_path, NAME))
    (drawn,) = settings.charts(found, BY, "test_nll")
    assert drawn.panels[0].categories == ("0.2", "none")
    assert sorted(drawn.panels[0].series[0].x) == ["0.2", "none"]


# Pairs


def test_pairs_differ_in_the_cell_alone(rows):
    drawn = differences.chart(runs.flat(rows), BY, "test_nll", against="gru")
    assert drawn is not None
    searched = len(RATES) * len(NORMS)
    lost = {("arithmetic", "lstm_jzs"): 2, ("arithmetic", "mut1"): 1, ("xml", "mut1"): 0}
    for panel in drawn.panels:
        assert {s.name for s in panel.series} == {"lstm_jzs", "mut1"}
        for series in panel.series:
            pairs = searched + 3 - lost.get((panel.title, series.name), 0)
            assert series.x == (f"{series.name}, n={pairs}",)
            assert len(series.dots) == pairs
            assert series.y[0] == pytest.approx(CELLS[series.name] - CELLS["gru"])
            assert series.half_widths[0] == pytest.approx(0, abs=1e-12)


def test_the_interval_of_pairs_is_that_of_their_differences(tmp_path):
    trials = [replace(grid()[0], {"seed": s, "model.cell": c}) for s in range(4) for c in CELLS]
    noise = np.random.default_rng(3).normal(size=len(trials)).tolist()
    for trial, value in zip(trials, noise, strict=True):
        commit(tmp_path, trial, metrics={"test_nll": value})
    drawn = differences.chart(runs.flat(results.rows(tmp_path, NAME)), BY, "test_nll", "mut1")
    assert drawn is not None
    found = {series.name: series for series in drawn.panels[0].series}
    for place, cell in enumerate(CELLS):
        if cell != "mut1":
            values = [noise[3 * s + place] - noise[3 * s + 2] for s in range(4)]
            assert found[cell].y[0] == pytest.approx(statistics.fmean(values))
            assert found[cell].half_widths[0] == pytest.approx(half_width(values))


# What is compared


def test_sections_hold_what_can_be_compared(rows):
    found = runs.flat(rows)
    assert set(runs.sections(found, BY)) == {"arithmetic", "xml"}
    assert set(runs.sections(found, "task")) == set(CELLS)
    only = [run for run in found if run.config["task"] == "xml"]
    assert set(runs.sections(only, BY)) == {""}


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("model.cel", None, None), "no result has a field 'model.cel'. Did you mean"),
        ((None, "test_nl", None), "no finished trial has a metric 'test_nl'. Did you mean"),
        ((None, None, "gro"), "no result has model.cell=gro. Did you mean 'gru'?"),
    ],
)
def test_what_there_is_not_is_said_with_the_nearest(root, rows, arguments, part):
    with pytest.raises(InputError, match=re.escape(part)):
        figures.charts(rows, root / NAME, *arguments)


def test_a_metric_has_its_unit():
    assert runs.label("test_nll") == "test_nll, nats"
    assert runs.label("seconds_per_step") == "seconds_per_step, s"
    assert runs.label("params") == "params"


# Drawn


@pytest.fixture(scope="module")
def charts(root, rows):
    return {c.name: c for c in figures.charts(rows, root / NAME)}


def test_all_charts_are_there(charts):
    searched = ["settings_optim_clip_norm", "settings_optim_learning_rate"]
    assert sorted(charts) == ["best_of", "curves", "differences", *searched]


def test_stills_show_the_numbers_of_the_chart(charts):
    for drawn in charts.values():
        figure = still.figure(drawn)
        shown = [axes for axes in figure.axes if axes.get_visible()]
        assert len(shown) == len(drawn.panels)
        for axes, panel in zip(shown, drawn.panels, strict=True):
            lines = [line for line in axes.lines if len(line.get_xdata())]
            for series in panel.series:
                points = {tuple(np.asarray(line.get_ydata(), float)) for line in lines}
                across = {tuple(np.asarray(line.get_xdata(), float)) for line in lines}
                assert tuple(series.y) in (across if drawn.form == "intervals" else points)
            bands = [c for c in axes.collections if isinstance(c, FillBetweenPolyCollection)]
            if drawn.name == "curves":
                assert len(bands) == len(panel.series)
                low = min(
                    y - (h or 0)
                    for s in panel.series
                    for y, h in zip(s.y, s.half_widths, strict=True)
                )
                assert min(b.get_paths()[0].vertices[:, 1].min() for b in bands) == pytest.approx(
                    low
                )
            assert panel.title in {axes.get_title(loc=side) for side in ("left", "center")}
        words = {text.get_text() for axes in shown for text in (axes.xaxis.label, axes.yaxis.label)}
        words |= {text.get_text() for text in figure.texts}
        words |= {figure.get_supxlabel()}
        assert drawn.panels[0].y in words
        assert drawn.title == figure.get_suptitle()


def test_names_that_matplotlib_reads_as_something_else_are_drawn_as_they_are():
    names = ("$x_1$ and $y$", "_hidden", "100%")
    series = tuple(chart.Series(n, (1, 2), (1.0, 2.0), (None, None), ("", "")) for n in names)
    panel = chart.Panel("$ $", "step", "y", series)
    drawn = chart.Chart("x", "x", "", "curves", names, (panel,))
    with matplotlib.rc_context():
        figure = still.figure(drawn)
        figure.canvas.draw()
    (legend,) = figure.legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert [text.replace(r"\$", "$") for text in texts] == list(names)


def test_any_two_of_twenty_names_look_different():
    names = tuple(map(str, range(20)))
    drawn = chart.Chart("x", "x", "", "points", names, ())
    assert len({tuple(sorted(still.look(drawn, name).items())) for name in names}) == 20


def test_what_is_under_the_pointer_is_escaped_and_whole(charts):
    drawn = charts["settings_optim_learning_rate"]
    fragment = interactive.fragment(drawn, with_library=False)
    data = json.loads(interactive.figure(drawn).to_json() or "")["data"]
    told = [text for trace in data for text in trace.get("text", [])]
    for panel in drawn.panels:
        for series in panel.series:
            for y, h in zip(series.y, series.half_widths, strict=True):
                interval = f" ± {h:.2g}" if h is not None else ""
                trials = [t for t in told if t.startswith(f"{series.name}: {y:.5g}{interval}<br>")]
                assert trials
            assert all(any(dot.told in text for text in told) for dot in series.dots)
    assert "http" not in fragment
    nasty = "<script>alert(1)</script><b>b</b>"
    series = chart.Series(nasty, (1.0,), (2.0,), (None,), (nasty,), (chart.Dot(1.0, 2.0, nasty),))
    panel = chart.Panel(nasty, nasty, nasty, (series,))
    fragment = interactive.fragment(
        chart.Chart("x", "x", "", "points", (nasty,), (panel,)), with_library=False
    )
    assert "<script>alert" not in fragment
    assert "<b>" not in fragment


def test_nothing_is_uploaded():
    assert interactive.CONFIG["showSendToCloud"] is False


# The command


def test_plot_by_draws_every_chart_in_every_format(command, root, charts, tmp_path):
    where = ("--results-dir", str(root), "--output-dir", "out")
    asked = ("--by", "model.cell", "--metric", "test_nll", "--only", "task=xml")
    code, out, err = command("plot", NAME, *where, *asked)
    assert (code, err) == (0, "")
    written = {f"{name}.{suffix}" for name in charts for suffix in plots.FORMATS}
    assert {path.name for path in (tmp_path / "out").iterdir()} == written
    assert len(out.splitlines()) == len(written)
    for name in charts:
        png = (tmp_path / "out" / f"{name}.png").read_bytes()
        width, height = struct.unpack(">II", png[16:24])
        assert (width, png[-8:-4]) == (1400, b"IEND")
        assert height > 300
        xml.etree.ElementTree.fromstring((tmp_path / "out" / f"{name}.svg").read_text())
        pdf = (tmp_path / "out" / f"{name}.pdf").read_bytes()
        assert pdf.startswith(b"%PDF-")
        assert pdf.rstrip().endswith(b"%%EOF")
        assert b"/Type3" not in pdf


def test_what_cannot_be_drawn_is_one_line(command, root):
    where = ("--results-dir", str(root))
    wrong = {
        ("plot", NAME, *where): "no figures of its own; --by PATH",
        ("plot", NAME, *where, "--by", "model.cel"): "Did you mean 'model.cell'?",
        ("plot", NAME, *where, "--metric", "test_nlll"): "Did you mean 'test_nll'?",
        ("plot", NAME, *where, "--by", "task", "--against", "xmll"): "Did you mean 'xml'?",
    }
    for arguments, part in wrong.items():
        code, out, err = command(*arguments)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert part in err
