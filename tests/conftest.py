"""Strictness for every test, and the folder of original data files where there is one."""

import os
import signal
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest

from seqlab import cli, interruption

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture(scope="module", autouse=True)
def forgetful():
    """Programs that one file has compiled are of no use to another; all of them are gigabytes."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="session")
def original_files() -> Path:
    """The folder that SEQLAB_DATA names; tests that need real data skip without it."""
    folder = os.environ.get("SEQLAB_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip(f"needs original data files: SEQLAB_DATA is {folder!r}")
    return Path(folder)


@pytest.fixture
def float64():
    """Run the test with 64-bit floats."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def listening():
    """Signals as a command hears them; afterwards as the test runner does."""
    before = {number: signal.getsignal(number) for number in interruption.SIGNALS}
    interruption.listen()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    interruption.forget()


@pytest.fixture
def command(capsys, monkeypatch, tmp_path):
    """Run a command of launch.py in an empty folder: its exit code, output and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(interruption, "listen", lambda: None)

    def run(*arguments: str) -> tuple[int, str, str]:
        return cli.main(list(arguments)), *capsys.readouterr()

    return run
