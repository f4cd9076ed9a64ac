"""A branch that changes in every way, seen through a cache that keeps all it is not told to drop.

Three things must hold after every refresh: each name gives what the official library has for
it; (inode, mtime) of a file never stands for other bytes; and mtime is the time of the
snapshot that brought the bytes, as all ancestors tell it.
"""

import random
from tempfile import TemporaryDirectory

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.compat.oracle import expected_tree
from tests.fs.driving import driving, shown_path
from tests.fs.histories import ENCODINGS, START, History
from tests.fs.watching import Watcher
from zfuse.repo.ref import Ref, RefKind

pytestmark = [pytest.mark.compat, pytest.mark.expects_log("is not shown")]

PATHS = ["", "a", "g", "g/b", "a/c", "a/c/0", "g/h/a"]
SIZES = [1, 5, 513, 700]

paths = st.sampled_from(PATHS)
coords = st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 1))
shapes = st.one_of(
    st.lists(st.integers(1, 4), min_size=1, max_size=2), st.just([]), st.just([4, 3])
)
sizes = st.sampled_from(SIZES)
changes = st.one_of(
    st.tuples(st.just("array"), paths, shapes, st.sampled_from(ENCODINGS)),
    *[st.tuples(st.just("chunk"), paths, coords, sizes)] * 4,
    st.tuples(st.just("odd_chunk"), paths, coords.map(lambda c: c[: 1 + c[2]]), sizes),
    st.tuples(st.just("erase"), paths, coords),
    st.tuples(st.just("group"), paths),
    st.tuples(st.just("remove"), paths),
    st.tuples(st.just("again"), paths, shapes),
)
steps = st.one_of(
    *[st.tuples(st.just("edit"), st.lists(changes, min_size=1, max_size=6), st.just(False))] * 5,
    st.tuples(st.just("edit"), st.lists(changes, min_size=1, max_size=6), st.just(True)),
    st.tuples(st.just("move"), paths, paths),
    st.tuples(st.just("reset"), st.integers(0, 20)),
    st.tuples(st.just("recreate"), st.integers(0, 20)),
    st.tuples(st.just("expire")),
    st.tuples(st.just("rewrite")),
)


async def watch(history, plan, seed, ref):
    async with driving(history.url, ref=ref, memory=1 << 20) as driven:
        dice = random.Random(seed)
        path = "branch/main" if ref is None else None
        root = await driven.find(path) if path else await driven.fs.getattr(1)
        watcher = Watcher(history, driven, root, dice)
        await watcher.check()
        for step in plan:
            history.apply(step)
            if dice.random() < 0.8:
                await watcher.refresh()
                await watcher.check()
                watcher.pin()
                if dice.random() < 0.1:
                    watcher.kernel.drop_caches()
        await watcher.refresh()
        await watcher.check()
        assert driven.fs.open_handles == 0


async def check_times(history):
    """Compare the time of every file of a new mount with what all ancestors tell."""
    expected = expected_tree(history.contents[history.tip].official)
    async with driving(history.url) as driven:
        root = await driven.find("branch/main")
        for name in expected.files:
            found = await driven.find("/".join(shown_path(name, is_file=True)), root.inode)
            history.check_time(name, found.mtime_ns)


def follow(spec, plan, seed, *, alone):
    ref = Ref(RefKind.BRANCH, "main") if alone else None
    with TemporaryDirectory() as directory:
        history = History(directory, spec)
        history.apply(("edit", START, False))
        trio.run(watch, history, plan, seed, ref)
        if not any(step[0] == "move" for step in plan):
            trio.run(check_times, history)


@pytest.mark.parametrize("spec", [1, 2])
@settings(max_examples=25)
@given(plan=st.lists(steps, min_size=1, max_size=8), seed=st.integers(0, 999), alone=st.booleans())
def test_what_a_reader_sees_is_always_what_the_branch_holds(spec, plan, seed, alone):
    follow(spec, plan, seed, alone=alone)


@pytest.mark.long
@pytest.mark.parametrize("spec", [1, 2])
@settings(max_examples=1500, derandomize=False)
@given(plan=st.lists(steps, min_size=1, max_size=25), seed=st.integers(0, 999), alone=st.booleans())
def test_what_a_reader_sees_for_long(spec, plan, seed, alone):
    follow(spec, plan, seed, alone=alone)
