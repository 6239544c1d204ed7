"""What starts workers: the loop that every engine runs in, and how engines are named."""

import pytest

from seqlab import cli
from seqlab.errors import InputError
from seqlab.launch import engine, local


class Fake:
    """An engine of workers that live for so many polls."""

    def __init__(self, polls: int = 3, error: BaseException | None = None):
        self.polls, self.error = polls, error
        self.said: list = []

    def default_workers(self):
        return 1

    def start(self, command, num_workers):
        self.said.append(("start", command, num_workers))
        if self.error is not None:
            raise self.error

    def poll(self, missing):
        self.said.append(("poll", missing))
        self.polls -= 1
        return self.polls > 0

    def stop(self):
        self.said.append("stop")


@pytest.fixture(autouse=True)
def naps(monkeypatch):
    slept = []
    monkeypatch.setattr(engine.time, "sleep", slept.append)
    return slept


def test_workers_are_started_once_and_asked_for_until_none_is_left(naps):
    fake, missing = Fake(polls=3), iter((5, 2, 0))
    engine.run(fake, ["launch.py", "work"], 4, lambda: next(missing))
    assert fake.said == [
        ("start", ["launch.py", "work"], 4),
        ("poll", 5),
        ("poll", 2),
        ("poll", 0),
    ]
    assert naps == [engine.POLL_SECONDS] * 2


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError("cannot be read"), SystemExit(1)])
def test_whatever_ends_the_watch_stops_the_workers(error):
    def watch():
        if len(fake.said) == 2:
            raise error
        return True

    fake = Fake()
    with pytest.raises(type(error)):
        engine.run(fake, [], 1, watch)
    assert fake.said == [("start", [], 1), ("poll", True), "stop"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), InputError("no such queue")])
def test_a_start_that_goes_wrong_half_way_leaves_no_worker(error):
    fake = Fake(error=error)
    with pytest.raises(type(error)):
        engine.run(fake, [], 1, lambda: True)
    assert fake.said == [("start", [], 1), "stop"]


def test_the_command_line_knows_every_engine():
    assert tuple(engine.ENGINES) == cli.ENGINES


def test_local_is_always_there_and_takes_no_options():
    assert isinstance(engine.named("local", {}), local.Local)
    with pytest.raises(InputError, match="--on local takes no options, not nodes"):
        engine.named("local", {"nodes": "2"})


@pytest.mark.parametrize(
    ("name", "extra"), [(name, extra) for name, (_, _, extra) in engine.ENGINES.items() if extra]
)
def test_an_engine_whose_library_is_missing_says_what_to_install(monkeypatch, name, extra):
    def missing(module):
        raise ModuleNotFoundError(f"No module named {extra!r}", name=extra)

    monkeypatch.setattr(engine.importlib, "import_module", missing)
    with pytest.raises(InputError) as error:
        engine.named(name, {})
    assert str(error.value) == f"--on {name} needs {extra}: pip install -e '.[{name}]'"


def test_a_module_that_is_missing_within_an_engine_is_a_bug_and_looks_like_one(monkeypatch):
    def missing(module):
        raise ModuleNotFoundError("No module named 'other'", name="other")

    monkeypatch.setattr(engine.importlib, "import_module", missing)
    for name in engine.ENGINES:
        with pytest.raises(ModuleNotFoundError):
            engine.named(name, {})
