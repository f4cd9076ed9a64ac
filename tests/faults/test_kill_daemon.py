"""The daemon is killed at each step of writing, syncing and recovering; nothing closed is lost."""

import shutil

import pytest

from tests.faults.killing import (
    all_steps,
    distinct,
    kill_and_recover,
    make_repository,
    recovery_steps,
)

pytestmark = [pytest.mark.fuse, pytest.mark.compat]

SHARES = 60
SAMPLE = 6
TRIES = 5  # background work differs from run to run


@pytest.fixture(scope="module")
def begin(tmp_path_factory):
    """Return the repository that the work begins with, and its state."""
    directory = tmp_path_factory.mktemp("begin")
    return directory / "r", make_repository(directory / "r")


@pytest.fixture(scope="module")
def steps(begin, tmp_path_factory):
    """Return the steps that the work takes."""
    return all_steps(*begin, tmp_path_factory.mktemp("steps"))


@pytest.fixture
def room(tmp_path):
    yield tmp_path
    shutil.rmtree(tmp_path)


def test_every_place_is_a_step(steps):
    names = {step.partition(" #")[0] for step in steps}
    assert names >= {"COMMIT", "blob write", "blob sync", "blob remove", "journal sync"}
    assert names >= {f"store put {kind}" for kind in ("manifests", "snapshots", "repo")}
    assert len(distinct(steps)) > 400


@pytest.mark.parametrize("share", range(SAMPLE))
def test_the_daemon_dies_at_some_steps(begin, steps, room, share):
    number = len(steps) * (2 * share + 1) // (2 * SAMPLE)
    kill_at_one_of(begin, room, [(line,) for line in steps[number:]])


def kill_at_one_of(begin, room, choices):
    """Let a daemon die at the first of some steps, or at the next where a run comes to none."""
    for number, lines in enumerate(choices[:TRIES]):
        if kill_and_recover(*begin, room / str(number), *lines):
            return
    raise AssertionError(f"no daemon came to any of {choices[:TRIES]}")


@pytest.mark.long
@pytest.mark.parametrize("share", range(SHARES))
def test_the_daemon_dies_at_each_step(begin, steps, room, share):
    lines = distinct(steps)[share::SHARES]
    killed = 0
    for number, line in enumerate(lines):
        killed += kill_and_recover(*begin, room / str(number), line)
    assert killed >= len(lines) - 1  # uploads in the background may go another way


# Of the first sync: it may land, or has landed and the session has not heard of it.
MOMENTS = ["store put repo #1 before", "store put repo #1 after"]


@pytest.mark.parametrize("moment", MOMENTS)
def test_the_daemon_dies_again_at_some_steps_of_recovering(begin, room, moment):
    lines = distinct(recovery_steps(*begin, room / "all", moment))
    for number in (0, len(lines) // 2):
        kill_at_one_of(begin, room, [(moment, line) for line in lines[number:]])


@pytest.mark.long
@pytest.mark.parametrize("share", range(SHARES // 6))
@pytest.mark.parametrize("moment", MOMENTS)
def test_the_daemon_dies_again_at_each_step_of_recovering(begin, room, moment, share):
    lines = distinct(recovery_steps(*begin, room / "all", moment))[share :: SHARES // 6]
    killed = 0
    for number, line in enumerate(lines):
        killed += kill_and_recover(*begin, room / str(number), moment, line)
    assert killed >= len(lines) - 1
