"""What the README shows is true: its commands parse, and its cell joins everything by name."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from seqlab import cli, tables
from seqlab.launch import environment

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"python launch\.py ([^#\n`]*)", README)
TINY = (
    "--set=model.parameter_budget=3000",
    "--set=data.train_size=7000",
    "--set=data.valid_size=700",
    "--set=data.test_size=700",
    "--set=train.steps_per_epoch=10",
    "--set=train.schedule.max_epochs=1",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_parses(command):
    typed = command.partition(" <")[0].replace("EXPERIMENT", "mut_vs_lstm_gru")
    cli._parser().parse_args(shlex.split(typed))


def test_the_table_on_the_first_screen_is_the_recorded_one():
    recorded = json.loads((ROOT / "experiments/recorded/mut_vs_lstm_gru.json").read_text())
    rows = {row["architecture"]: row for row in recorded["rows"] if row["task"] == "xml"}
    shown = re.findall(r"^\| (.*) \|$", README.partition("```")[0], re.MULTILINE)
    cells = [[cell.strip() for cell in line.split("|")] for line in shown]
    header, *body = cells
    assert header == [
        "architecture",
        "paper",
        "ours, best",
        "mean",
        "± 95%",
        "n",
        "units",
        "params",
    ]
    assert [line[0] for line in body] == list(rows)
    formats = {"paper": ".4g", "best": ".4g", "mean": ".4g", "ci95": ".2g"}
    formats |= {"n": "d", "units": "d", "params": ",d"}
    for name, *values in body:
        row = rows[name]
        expected = [
            "" if row[key] is None else format(row[key], form) for key, form in formats.items()
        ]
        assert values == expected, name


def test_the_explanation_is_what_the_command_prints(capsys):
    assert cli.main(["explain", "mut3"]) == 0
    (shown,) = re.findall(r"\$ python launch.py explain mut3\n(.*?)```", README, re.DOTALL)
    # how many operations are left to the compiler of the machine at hand
    printed = capsys.readouterr().out
    assert shown.partition("\n\n")[0] == printed.partition("\n\n")[0]


def test_the_account_is_what_the_command_prints(capsys):
    assert cli.main(["account", "vgg16"]) == 0
    printed = {tuple(line.split()) for line in capsys.readouterr().out.splitlines()}
    (shown,) = re.findall(r"\$ python launch.py account vgg16\n(.*?)```", README, re.DOTALL)
    lines = [tuple(line.split()) for line in shown.splitlines() if line.strip() != "…"]
    assert len(lines) == 7
    assert set(lines) <= printed


def test_the_table_of_the_environment_is_the_one_in_force():
    assert tables.render(environment.table(), "markdown").strip() in README


def test_the_ratios_to_peers_are_the_recorded_ones():
    recorded = json.loads((ROOT / "experiments/recorded/cell_benchmark.json").read_text())
    means = [row for row in recorded["rows"] if row["shape"].startswith("geometric")]
    assert len(means) == 7
    for row in means:
        shapes = [r for r in recorded["rows"] if r["cell"] == row["cell"] and r["roofline"]]
        ratios = [f"{row[f'{peer}_ratio']:.2f}" for peer in ("plain", "nnx", "torch")]
        roofline = [f"{f(r['roofline'] for r in shapes):.2f}" for f in (min, max)]
        line = " | ".join(["", row["cell"], *ratios, "–".join(roofline)]).strip()
        assert f"{line} |" in README


def test_the_error_of_predicted_memory_is_the_recorded_one():
    recorded = json.loads((ROOT / "experiments/recorded/training_memory.json").read_text())
    errors = [abs(row["error"]) for row in recorded["rows"] if row["batch"] and not row["steps"]]
    (claimed,) = re.findall(r"it is within ([\d.]+)% for every network", README)
    assert len(errors) >= 80
    assert max(errors) <= float(claimed) < max(errors) + 0.5


def test_cell_of_the_readme_appears_by_name_and_passes_the_property_tests(tmp_path):
    copy = tmp_path / "seqlab"
    ignored = shutil.ignore_patterns(".*", "__pycache__", "results", "*.egg-info")
    shutil.copytree(ROOT, copy, ignore=ignored)
    (code,) = re.findall(r"```python\n(\"\"\"A gated cell.*?)```", README, re.DOTALL)
    (copy / "seqlab/cells/ugrnn.py").write_text(code)
    names = copy / "seqlab/cells/__init__.py"
    (line,) = re.findall(r"`(\"ugrnn\": ugrnn\.ugrnn)`", README)
    with_line = names.read_text().replace("import elman,", "import ugrnn, elman,")
    names.write_text(with_line.replace('    "rnn":', f'    {line},\n    "rnn":'))

    def run(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, *words], cwd=copy, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    table = run(
        *("launch.py", "run", "mut_vs_lstm_gru", "--budget", "smoke", "--set", "model.cell=ugrnn"),
        *("--only", "model.cell=gru", "--results-dir", str(tmp_path / "results"), *TINY),
    )
    assert "ugrnn" in table
    tests = run("-m", "pytest", "-q", "tests/cells", "tests/test_recurrence.py", "-k", "ugrnn")
    assert int(re.findall(r"(\d+) passed", tests)[0]) >= 10
