"""Workers get the variables of the table, the user's own stay, and JAX understands them."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from seqlab.launch import engine, environment, local
from seqlab.tables import render

ROOT = Path(__file__).parents[2]
FLAGS = "--xla_gpu_enable_command_buffer=+WHILE --xla_gpu_graph_min_graph_size=1"
CHILD = """
import json, sys
import jax
from jaxlib import xla_client
from seqlab.launch.provenance import provenance
jax.block_until_ready(jax.jit(lambda x: x @ x)(jax.numpy.ones((4, 4))))
print(json.dumps({
    "precision": jax.config.jax_default_matmul_precision,
    "cache": jax.config.jax_compilation_cache_dir,
    "seconds": jax.config.jax_persistent_cache_min_compile_time_secs,
    "bytes": jax.config.jax_persistent_cache_min_entry_size_bytes,
    "gpu": xla_client.generate_pjrt_gpu_plugin_options(),
    "provenance": provenance()["environment"],
}))
"""
REPORT = """
import json, os, pathlib, sys
names = ("CUDA_VISIBLE_DEVICES", "XLA_CLIENT_MEM_FRACTION", "XLA_FLAGS")
pathlib.Path(sys.argv[1], sys.argv[3]).write_text(json.dumps([os.environ.get(n) for n in names]))
"""


@pytest.fixture(autouse=True)
def cache_root(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("SEQLAB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def takes_all(monkeypatch):
    monkeypatch.setattr(environment, "xla_takes", lambda *flags: True)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.usefixtures("takes_all")
def test_each_platform_has_its_rows(cache_root):
    cached = {
        "JAX_DEFAULT_MATMUL_PRECISION": "float32",
        "JAX_COMPILATION_CACHE_DIR": str(cache_root / f"compiled-{os.getuid()}"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    expected = {
        "cpu": {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1", "NPROC": "1"},
        "gpu": cached | {"XLA_FLAGS": FLAGS, "XLA_CLIENT_MEM_FRACTION": "0.25"},
        "tpu": cached,
    }
    assert set(expected) == set(environment.PLATFORMS)
    for platform, added in expected.items():
        completed = environment.complete({"HOME": "/root"}, platform, workers_per_device=3)
        assert completed == {"HOME": "/root"} | added
        assert environment.in_force(completed) == added
        assert environment.complete(completed, platform, workers_per_device=7) == completed


def test_a_cpu_needs_no_cache_folder(cache_root):
    environment.complete({}, "cpu")
    assert not cache_root.exists()


def test_a_process_that_runs_already_is_not_said_to_have_what_came_too_late():
    assert environment.complete({}, "cpu", started=True) == {"NPROC": "1"}


@pytest.mark.usefixtures("takes_all")
@pytest.mark.parametrize("platform", environment.PLATFORMS)
@pytest.mark.parametrize("name", [row.name for row in environment.TABLE if row.name != "XLA_FLAGS"])
def test_what_the_user_has_set_is_left_alone(name, platform):
    for value in ("", "0.5"):
        assert environment.complete({name: value}, platform)[name] == value


def test_an_older_name_of_a_variable_is_the_users_choice_too():
    given = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.5", "XLA_FLAGS": FLAGS}
    assert "XLA_CLIENT_MEM_FRACTION" not in environment.complete(given, "gpu")


@pytest.mark.usefixtures("takes_all")
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("", FLAGS),
        ("--xla_dump_to=x", f"{FLAGS} --xla_dump_to=x"),
        (
            "--xla_gpu_enable_command_buffer= --xla_dump_to=x",
            "--xla_gpu_graph_min_graph_size=1 --xla_gpu_enable_command_buffer= --xla_dump_to=x",
        ),
        (
            "--xla_gpu_graph_min_graph_size=9",
            f"{FLAGS.split()[0]} --xla_gpu_graph_min_graph_size=9",
        ),
        ("a/file/of/flags", "a/file/of/flags"),
    ],
)
def test_flags_of_the_user_are_kept_and_come_last(given, expected):
    assert environment.complete({"XLA_FLAGS": given}, "gpu")["XLA_FLAGS"] == expected


def test_no_flag_is_unknown_to_this_jaxlib():
    flags = [row.value.split() for row in environment.TABLE if row.name == "XLA_FLAGS"]
    assert flags == [FLAGS.split()]
    assert environment.xla_takes(*flags[0])
    assert not environment.xla_takes("--xla_gpu_enable_command_buffer=+NO_SUCH_COMMAND")


def test_flags_that_xla_does_not_take_stay_out(monkeypatch):
    monkeypatch.setattr(environment, "xla_takes", lambda *flags: False)
    assert "XLA_FLAGS" not in environment.complete({}, "gpu")
    given = {"XLA_FLAGS": "--xla_dump_to=x"}
    assert environment.complete(given, "gpu")["XLA_FLAGS"] == "--xla_dump_to=x"


@pytest.mark.usefixtures("takes_all")
def test_jax_starts_with_everything_a_gpu_worker_gets_and_understands_it(cache_root):
    bare = {k: v for k, v in os.environ.items() if k not in environment.in_force(os.environ)}
    completed = environment.complete(bare, "gpu", workers_per_device=2)
    completed["JAX_PLATFORMS"] = "cpu"
    done = subprocess.run(
        [sys.executable, "-c", CHILD],
        env=completed,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    folder = cache_root / f"compiled-{os.getuid()}"
    assert said["precision"] == "float32"
    assert (said["cache"], said["seconds"], said["bytes"]) == (str(folder), 0, -1)
    assert said["gpu"]["memory_fraction"] == 0.375
    gpu_rows = {row.name for row in environment.TABLE if "gpu" in row.platforms}
    assert set(said["provenance"]) == gpu_rows
    assert said["provenance"].items() <= completed.items()
    assert list(folder.glob("jit_*"))
    assert mode(folder) == 0o700


def test_workers_share_the_gpus_that_the_user_left_visible(tmp_path, monkeypatch):
    monkeypatch.delenv("JAX_PLATFORMS")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    monkeypatch.setenv("XLA_FLAGS", FLAGS)
    monkeypatch.setattr(local, "find_spec", lambda name: name == "jax_cuda13_plugin" or None)
    monkeypatch.setattr(engine, "POLL_SECONDS", 0.02)
    assert (local.platform(), local.default_workers()) == ("gpu", 2)
    engine.run(local.Local(), ["-c", REPORT, str(tmp_path)], 4, lambda: False)
    reports = {n: json.loads((tmp_path / str(n / 4)).read_text()) for n in range(4)}
    assert reports == {n: ["35"[n % 2], "0.375", FLAGS] for n in range(4)}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert (local.platform(), local.num_accelerators()) == ("cpu", 0)


def test_the_cache_is_the_users_alone_and_says_what_it_is(cache_root):
    folder = environment.cache_folder()
    assert folder == cache_root / f"compiled-{os.getuid()}"
    assert mode(folder) == 0o700
    tag = (folder / "CACHEDIR.TAG").read_text()
    assert tag.startswith("Signature: 8a477f597d28d172789f06886806bc55")
    assert "seqlab" in tag
    folder.chmod(0o777)
    assert environment.cache_folder() == folder
    assert mode(folder) == 0o700


def test_a_cache_that_leads_out_of_its_root_is_not_used(cache_root, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    cache_root.mkdir()
    (cache_root / f"compiled-{os.getuid()}").symlink_to(elsewhere)
    assert environment.cache_folder() is None
    assert list(elsewhere.iterdir()) == []
    assert "JAX_COMPILATION_CACHE_DIR" not in environment.complete({}, "tpu")


def test_a_cache_of_somebody_else_is_not_used(monkeypatch):
    someone = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: someone)
    assert environment.cache_folder() is None


def test_no_cache_where_none_can_be_made(cache_root):
    cache_root.write_text("a file")
    assert environment.cache_folder() is None


def test_the_cache_follows_the_variables_that_name_it(tmp_path, monkeypatch):
    monkeypatch.delenv("SEQLAB_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    name = f"compiled-{os.getuid()}"
    assert environment.cache_folder() == tmp_path / "home/.cache/seqlab" / name
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert environment.cache_folder() == tmp_path / "xdg/seqlab" / name


def test_the_table_shows_every_row():
    shown = environment.table()
    assert [row["name"] for row in shown.rows] == [row.name for row in environment.TABLE]
    assert all(row[column.key] for row in shown.rows for column in shown.columns)
    lines = render(shown, "markdown").splitlines()
    for row in environment.TABLE:
        escaped = row.name.replace("_", r"\_")
        assert sum(line.startswith(f"| {escaped} ") for line in lines) == 1
