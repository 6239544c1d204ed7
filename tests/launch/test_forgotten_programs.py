"""A worker keeps what it has compiled, as long as there is room for it."""

import mmap

import jax
import jax.numpy as jnp
import pytest
from fake_packs import Fake, statuses, work

from seqlab.launch import programs


def test_what_is_resident_grows_with_what_is_written():
    # Pages of its own: memory that this process has had before would be resident already.
    with mmap.mmap(-1, 50_000_000) as block:
        before = programs.resident_bytes()
        block.write(b"1" * len(block))
        assert programs.resident_bytes() - before > 45_000_000


@pytest.mark.parametrize(("growth", "times"), [(0, 4), (2**50, 1)])
def test_programs_are_compiled_again_only_where_they_were_too_many(
    tmp_path, monkeypatch, growth, times
):
    """Four trials of one program, in a process that grows with each."""
    compiled, memory = [], iter(range(1, 100))
    monkeypatch.setattr(programs, "resident_bytes", lambda: next(memory))
    monkeypatch.setattr(programs, "GROWTH", growth)

    @jax.jit
    def program(x):
        compiled.append(x)  # once for each time that it is traced
        return x + 1

    jax.clear_caches()
    work(Fake("abcd", lambda name: program(jnp.ones(3))), tmp_path, pack=1)
    assert statuses(tmp_path) == dict.fromkeys("abcd", "DONE")
    assert len(compiled) == times
