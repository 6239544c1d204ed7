"""Figures are saved whole, the same on any day, in their folder, in a style everybody can read."""

import itertools
import re
import struct
import sys
import xml.etree.ElementTree
import zlib
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from experiments import filters
from seqlab import cli, plots, results
from seqlab.errors import InputError
from seqlab.launch.provenance import provenance
from seqlab.trial import as_dict, trial_id


def curves(rows: list[dict]) -> dict[str, Figure]:
    figure, axes = plots.panels(1, 2, width=4, height=2)
    for colour in range(3):
        axes[0, 0].plot([0, 1, 2], [colour, 1, 2], marker=plots.MARKERS[colour], label=str(colour))
    plots.label(axes[0, 0], "Curves", "step", "%")
    plots.picture(axes[0, 1], np.eye(4), "Picture")
    return {"curves": figure}


def contents(paths: list[Path]) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in paths}


def chunks(png: bytes) -> dict[bytes, bytes]:
    """A PNG's chunks by type, each with a right checksum."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    found, rest = {}, png[8:]
    while rest:
        (size,) = struct.unpack(">I", rest[:4])
        kind, data, checksum = rest[4:8], rest[8 : 8 + size], rest[8 + size : 12 + size]
        assert struct.pack(">I", zlib.crc32(kind + data)) == checksum
        found[kind] = data
        rest = rest[12 + size :]
    return found


def test_each_figure_is_saved_in_every_format(tmp_path):
    paths = plots.draw(curves, [], tmp_path / "new" / "folder")
    assert [path.name for path in paths] == ["curves.png", "curves.svg", "curves.pdf"]
    assert sorted((tmp_path / "new" / "folder").iterdir()) == sorted(paths)
    parts = chunks(paths[0].read_bytes())
    assert struct.unpack(">II", parts[b"IHDR"][:8]) == (800, 400)
    assert list(parts)[-1] == b"IEND"
    root = xml.etree.ElementTree.fromstring(paths[1].read_text())
    assert (root.get("width"), root.get("height")) == ("288pt", "144pt")
    pdf = paths[2].read_bytes()
    assert re.search(rb"/MediaBox \[ *0 0 288 144 *\]", pdf)
    assert pdf.rstrip().endswith(b"%%EOF")
    assert b"/Type3" not in pdf


def test_the_same_figure_is_the_same_bytes_whatever_the_day_and_the_settings(tmp_path, monkeypatch):
    first = contents(plots.draw(curves, [], tmp_path / "a"))
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    with matplotlib.rc_context({"lines.linewidth": 20, "savefig.dpi": 50, "font.size": 30}):
        assert contents(plots.draw(curves, [], tmp_path / "b")) == first
        assert matplotlib.rcParams["lines.linewidth"] == 20
        assert matplotlib.rcParams["svg.hashsalt"] is None
    assert b"date" not in first["curves.svg"]
    assert b"Date" not in first["curves.pdf"]
    assert not {b"tEXt", b"tIME", b"iTXt"} & set(chunks(first["curves.png"]))


@pytest.mark.parametrize(
    "name", ["../out", "/tmp/out", "a/b", "a\\b", "", ".", "..", ".hidden", "a.b", "a\n", "-x", "ä"]
)
def test_a_name_that_is_no_file_name_writes_nothing(tmp_path, name):
    with pytest.raises(InputError, match="is not a name of letters"):
        plots.draw(lambda rows: {"good": Figure(), name: Figure()}, [], tmp_path / "plots")
    assert not any(tmp_path.iterdir())


def test_nothing_drawn_is_nothing_saved(tmp_path):
    assert plots.draw(lambda rows: {}, [], tmp_path) == []
    assert not any(tmp_path.iterdir())


def test_an_experiment_that_fails_leaves_the_settings_alone(tmp_path):
    before = matplotlib.rcParams["font.size"]
    with pytest.raises(ZeroDivisionError):
        plots.draw(lambda rows: {"x": Figure(figsize=(1 / 0, 1))}, [], tmp_path)
    assert matplotlib.rcParams["font.size"] == before


def test_a_legend_is_there_where_there_is_something_to_tell_apart():
    figure, axes = plots.panels(1, 2)
    axes[0, 0].plot([1, 2], label="one")
    axes[0, 1].plot([1, 2], label="one")
    axes[0, 1].plot([2, 1], label="two")
    for axis in axes.flat:
        plots.label(axis, "t", "x", "y")
    assert [axis.get_legend() is not None for axis in figure.axes] == [False, True]


# Colour vision: Machado, Oliveira and Fernandes 2009, severity 1.0, on linear RGB

VISION = {
    "normal": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of linear sRGB under D65."""
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = np.array(to_xyz) @ np.clip(rgb, 0, 1) / [0.9505, 1.0, 1.089]
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("vision", VISION)
def test_any_two_colours_differ_for_every_eye_and_on_paper(vision):
    srgb = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in plots.COLOURS])
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    seen = [lab(np.array(VISION[vision]) @ colour) for colour in (*linear, np.ones(3))]
    for one, other in itertools.combinations(seen, 2):
        assert np.linalg.norm(one - other) > 10


def test_there_is_a_marker_for_every_colour():
    assert len(set(plots.MARKERS)) == len(set(plots.COLOURS)) == len(plots.MARKERS)


# The command


@pytest.fixture
def plot(monkeypatch, capsys, tmp_path):
    """Run `plot` on three results of the filters; what it drew is the rows it was given."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SEQLAB_RESULTS", raising=False)
    monkeypatch.setattr(cli.interruption, "listen", lambda: None)
    given = []

    def figures(rows):
        given.extend(row["config"]["filter"] for row in rows)
        return {"drawn": Figure(figsize=(1, 1))}

    monkeypatch.setattr(filters, "figures", figures)
    for name in ("box", "motion", "sharpen"):
        trial = filters.Trial(name)
        folder = results.trial_folder(tmp_path / "results", "filters", trial_id(trial))
        folder.mkdir(parents=True)
        row = {"trial_id": trial_id(trial), "config": as_dict(trial), "status": "DONE"}
        assert results.commit(folder, row | {"metrics": {}, "provenance": provenance()})

    def run(*arguments: str) -> tuple[int, str, str]:
        return cli.main(["plot", *arguments]), *capsys.readouterr()

    return run, given


def test_plot_draws_the_results_and_prints_where(plot, tmp_path):
    run, given = plot
    before = results.rows(tmp_path / "results", "filters")
    code, out, err = run("filters")
    folder = tmp_path / "results" / "filters" / "plots"
    assert (code, err) == (0, "")
    assert out.splitlines() == [str(folder / f"drawn.{suffix}") for suffix in plots.FORMATS]
    assert sorted(given) == ["box", "motion", "sharpen"]
    assert results.rows(tmp_path / "results", "filters") == before
    given.clear()
    asked = ("--only", "filter=box,motion", "--budget", "smoke", "--output-dir", "elsewhere")
    assert run("filters", *asked)[:2] == (
        0,
        "".join(f"elsewhere/drawn.{s}\n" for s in plots.FORMATS),
    )
    assert sorted(given) == ["box", "motion"]
    assert (tmp_path / "elsewhere" / "drawn.png").exists()


def test_what_cannot_be_plotted_is_one_line(plot, tmp_path, monkeypatch):
    run, given = plot
    (tmp_path / "file").write_text("in the way")
    wrong = {
        ("cell_benchmark",): "cell_benchmark has no figures of its own",
        ("filters", "--results-dir", "nowhere"): "no results of filters yet",
        ("filters", "--only", "filter=bxo"): "Did you mean 'box'?",
        ("filters", "--output-dir", "file/plots"): "cannot be written to file/plots",
    }
    for arguments, part in wrong.items():
        code, out, err = run(*arguments)
        assert (code, out) == (2, "")
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        assert part in err
    given.clear()
    with monkeypatch.context() as patch:
        patch.setattr(filters, "figures", lambda rows: {})
        assert run("filters") == (2, "", "error: there is nothing to draw in these results\n")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "seqlab.plots")
    monkeypatch.delattr("seqlab.plots")
    code, out, err = run("filters")
    assert (code, out) == (2, "")
    assert err == "error: figures need matplotlib: pip install -e '.[plots]'\n"
    assert not given
