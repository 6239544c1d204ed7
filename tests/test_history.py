"""The log of a run and the states that it belongs to."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqlab import history
from seqlab.checkpoint import CheckpointError
from seqlab.errors import Changed, InputError
from seqlab.history import Log, device_seconds, params_sha256, same_data

AWKWARD = [
    0.1 + 0.2,
    1 / 3,
    math.pi,
    5e-324,  # the smallest there is
    np.nextafter(1.0, 2.0).item(),
    -0.0,
    1.7976931348623157e308,
    float(np.float32(0.1)),
]


def state(step: int) -> dict:
    return {"w": jnp.full((3,), step, jnp.float32), "step": step}


def say(log: Log, steps: list[int], commit: bool = True) -> None:
    for step in steps:
        log.append(step=step, train_loss=1 / step, seconds=0.5)
    if commit:
        log.commit(steps[-1], state(steps[-1]))


def resumed(folder) -> tuple[Log, dict]:
    log = Log(folder)
    return log, log.resume(state(0))


def test_what_was_committed_comes_back_and_the_rest_is_cut_away(tmp_path):
    log = Log(tmp_path)
    assert log.resume(state(0))["step"] == 0
    say(log, [1, 2])
    log.append(step=2, epoch=1, valid_nll=1.5)
    say(log, [3, 4])
    kept, content = list(log.lines), (tmp_path / "log.jsonl").read_bytes()
    say(log, [5, 6], commit=False)
    assert (tmp_path / "log.jsonl").read_bytes().startswith(content)

    again, at = resumed(tmp_path)
    assert again.lines == kept
    assert again.epochs == [{"step": 2, "epoch": 1, "valid_nll": 1.5}]
    assert [line["step"] for line in again.unfinished] == [3, 4]
    assert at["step"] == 4
    np.testing.assert_array_equal(at["w"], state(4)["w"])
    assert (tmp_path / "log.jsonl").read_bytes() == content
    say(again, [5])
    assert [line["step"] for line in resumed(tmp_path)[0].lines] == [1, 2, 2, 3, 4, 5]


def test_the_lines_of_an_epoch_begin_anew_after_its_end():
    log = Log(None)
    assert log.unfinished == []
    for epoch in (1, 2):
        log.append(step=epoch, seconds=0.1)
        assert [line["step"] for line in log.unfinished] == [epoch]
        log.append(step=epoch, epoch=epoch)
        assert log.unfinished == []
        assert [line["epoch"] for line in log.epochs] == list(range(1, epoch + 1))
    log.commit(2, state(2))
    assert log.resume(state(7))["step"] == 7, "nothing is written without a folder"


def test_json_keeps_the_bits_of_every_float(tmp_path):
    log = Log(tmp_path)
    log.append(values=AWKWARD, one=AWKWARD[0])
    log.commit(1, state(1))
    again, _ = resumed(tmp_path)
    (line,) = again.lines
    assert [v.hex() for v in line["values"]] == [v.hex() for v in AWKWARD]
    assert line == log.lines[0]


@pytest.mark.parametrize("torn", [b"{", b'{"step": 3, "train_lo', b"\xff\xfe", b"{}\n{}\n"])
def test_a_line_that_a_kill_has_torn_is_cut_away(tmp_path, torn):
    say(Log(tmp_path), [1, 2])
    path = tmp_path / "log.jsonl"
    content = path.read_bytes()
    path.write_bytes(content + torn)
    log, _ = resumed(tmp_path)
    assert path.read_bytes() == content
    assert [line["step"] for line in log.lines] == [1, 2]


def test_lines_before_the_first_checkpoint_are_forgotten(tmp_path):
    say(Log(tmp_path), [1, 2], commit=False)
    log, at = resumed(tmp_path)
    assert (log.lines, at["step"]) == ([], 0)
    say(log, [1])
    assert [line["step"] for line in resumed(tmp_path)[0].lines] == [1]


def test_any_damage_to_the_log_of_a_good_checkpoint_is_refused(tmp_path):
    say(Log(tmp_path), [1, 2])
    path = tmp_path / "log.jsonl"
    content = path.read_bytes()
    damaged = [None, b"", content[:-1], content[1:], content.replace(b"0.5", b"0.6", 1)]
    for position in range(0, len(content), 7):
        flipped = bytearray(content)
        flipped[position] ^= 1 << position % 8
        damaged.append(bytes(flipped))
    for one in damaged:
        path.unlink(missing_ok=True)
        if one is not None:
            path.write_bytes(one)
        with pytest.raises(CheckpointError) as error:
            resumed(tmp_path)
        assert str(error.value) == f"{path} is not the log of checkpoint 2 beside it"
    path.write_bytes(content)
    assert resumed(tmp_path)[1]["step"] == 2


def test_a_damaged_checkpoint_takes_its_lines_with_it(tmp_path):
    log = Log(tmp_path)
    say(log, [1, 2])
    content = (tmp_path / "log.jsonl").read_bytes()
    say(log, [3, 4])
    (tmp_path / "checkpoints" / "4" / "manifest.json").write_text("{}")
    again, at = resumed(tmp_path)
    assert at["step"] == 2
    assert [line["step"] for line in again.lines] == [1, 2]
    assert (tmp_path / "log.jsonl").read_bytes() == content


def test_the_log_of_another_run_is_refused(tmp_path):
    """As long, and as well formed."""
    for name, step in (("a", 3), ("b", 4)):
        (tmp_path / name).mkdir()
        say(Log(tmp_path / name), [1, step])
    content = [(tmp_path / name / "log.jsonl").read_bytes() for name in "ab"]
    (tmp_path / "a" / "log.jsonl").write_bytes(content[1])
    with pytest.raises(CheckpointError):
        resumed(tmp_path / "a")


def test_data_that_changed_are_refused_with_both_digests(tmp_path):
    then, now = "1" * 64, "2" * 64
    for _ in range(2):
        same_data(tmp_path, then)
    with pytest.raises(Changed) as error:
        same_data(tmp_path, now)
    assert isinstance(error.value, InputError)
    for part in ("1" * 16 + " then", "2" * 16 + " now", "--allow-changes"):
        assert part in str(error.value)
    assert "\n" not in str(error.value)
    same_data(tmp_path, then)
    same_data(None, now)
    assert [path.name for path in tmp_path.iterdir()] == [history.DATA]


def test_a_note_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "note"
    written = type(path).write_text

    def killed(to, text, *rest):
        written(to, text[: len(text) // 2], *rest)
        raise KeyboardInterrupt

    for before in (None, "earlier"):
        if before is not None:
            history.note(path, before)
        with monkeypatch.context() as patch:
            patch.setattr(type(path), "write_text", killed)
            with pytest.raises(KeyboardInterrupt):
                history.note(path, "a longer text")
        assert (path.read_text() if path.exists() else None) == before


def test_device_seconds_are_those_of_the_dispatches():
    lines = [{"step": 1, "seconds": 0.25}, {"step": 2, "seconds": 0.5}]
    assert device_seconds([*lines, {"step": 2, "epoch": 1, "seconds_per_step": 9.0}]) == 0.75


def test_the_digest_of_parameters_is_of_names_and_bits():
    one = {"a": jnp.asarray([1.0, 2.0]), "b": jnp.zeros(2)}
    others = [
        {"a": one["a"], "c": one["b"]},
        {"a": one["b"], "b": one["a"]},
        {"a": one["a"], "b": -one["b"]},  # -0.0 is another number
        {"a": jnp.asarray([np.nextafter(np.float32(1), np.float32(2)), 2.0]), "b": one["b"]},
    ]
    digests = [params_sha256(tree) for tree in (one, *others)]
    assert len(set(digests)) == len(digests)
    assert params_sha256(jax.tree.map(np.asarray, one)) == digests[0]
