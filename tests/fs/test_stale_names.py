"""Moves of a branch that made readers see old bytes once, or would easily."""

import random

import pytest

from tests.compat.documents import DOT
from tests.fs.driving import driving
from tests.fs.histories import ENCODINGS, History
from tests.fs.watching import Watcher
from zfuse.fs import staleness

pytestmark = [pytest.mark.compat, pytest.mark.expects_log("is not shown")]
DEFAULT = ENCODINGS[0]


def array(path, *shape, encoding=DEFAULT):
    return ("array", path, list(shape), encoding)


def chunk(path, *coords, size=5):
    return ("chunk", path, coords, size)


def odd(path, *coords, size=5):
    return ("odd_chunk", path, coords, size)


def line(path, length=4):
    return [array(path, length), *[chunk(path, n) for n in range(length)]]


def square(path, length=3):
    cells = [(n, m) for n in range(length) for m in range(length)]
    return [array(path, length, length), *[chunk(path, *cell) for cell in cells]]


EDITS = {
    "a group below an array, in whose directory chunks are": [
        [*line("a"), ("group", "a/c")],
        [chunk("a", 1, size=9)],
        [("erase", "a", (2,))],
    ],
    "an array above a group gets another rank": [
        [*square("a"), ("group", "a/c"), ("group", "a/c/1/x")],
        [array("a", 3)],
        [chunk("a", 1)],
    ],
    "an array above a group is another one": [
        [*line("a"), ("group", "a/c")],
        [("remove", "a"), array("a", 4), chunk("a", 0), ("group", "a/c")],
    ],
    "a group appears in a directory of chunks": [
        line("a"),
        [("group", "a/c")],
        [("group", "a/c/1")],
        [("remove", "a/c"), ("remove", "a/c/1")],
    ],
    "a chunk takes the place of a group, and gives it back": [
        [array("a", 4), chunk("a", 0), ("group", "a/c/1"), ("group", "a/c/1/deep")],
        [chunk("a", 1)],
        [("erase", "a", (1,))],
    ],
    "a directory takes the place of a chunk of an odd rank, and gives it back": [
        [array("a", 3, 3), odd("a", 1), odd("a", 2), chunk("a", 0, 0)],
        [chunk("a", 1, 0)],
        [("erase", "a", (1, 0))],
    ],
    "a chunk takes the place of a directory to odd ones, and gives it back": [
        [array("a", 3, 3), odd("a", 1, 1, 0), chunk("a", 0, 0)],
        [chunk("a", 1, 1)],
        [("erase", "a", (1, 1))],
    ],
    "chunks of an odd rank change": [
        [array("a", 3, 3), odd("a", 1), odd("a", 0, 0, 1), chunk("a", 2, 2)],
        [odd("a", 1, size=9), odd("a", 0, 0, 1, size=7)],
    ],
    "a scalar becomes a line": [
        [array("a"), chunk("a")],
        [array("a", 4)],
        [chunk("a", 2)],
    ],
    "an array shrinks and grows": [
        square("a"),
        [array("a", 2, 3)],
        [array("a", 3, 2)],
        [array("a", 4, 4), chunk("a", 3, 3)],
    ],
    "an array has other names for its chunks": [
        square("a"),
        [array("a", 3, 3, encoding=DOT)],
        [chunk("a", 1, 1)],
        [array("a", 3, 3, encoding=ENCODINGS[3])],
    ],
    "the array at the root is another one": [
        line(""),
        [("remove", ""), array("", 4), chunk("", 1)],
        [("remove", ""), ("group", "")],
        [("remove", ""), *square("")],
    ],
    "the array at the root changes": [
        line(""),
        [chunk("", 1, size=9), ("erase", "", (2,))],
        [array("", 2)],
        [array("", 2, encoding=DOT)],
    ],
    "an array is made anew in its place": [
        [*square("g/a"), *line("g/b")],
        [("again", "g/a", [3, 3])],
        [("again", "g/b", [2])],
    ],
    "a group and all in it is deleted and made anew": [
        [("group", "g"), *line("g/a"), *line("g/h/b")],
        [("remove", "g"), ("group", "g"), *line("g/a", 2)],
        [("remove", "g")],
        line("g/h/b"),
    ],
    "an array becomes a group, and back": [
        line("a"),
        [("remove", "a"), ("group", "a")],
        [("remove", "a"), *line("a", 2)],
    ],
    "everything goes, and comes back": [
        [("group", ""), *line("a"), *square("g/b")],
        [("remove", ""), ("remove", "a"), ("remove", "g/b")],
        [*line("a"), *square("g/b")],
    ],
}


async def follow(history, edits, seed, pinned):
    """Do *edits*, and read everything after each, with *pinned* of what is known in use."""
    first, *others = edits
    history.apply(("edit", first, False))
    async with driving(history.url) as driven:
        root = await driven.find("branch/main")
        watcher = Watcher(history, driven, root, random.Random(seed))
        await watcher.check()
        for step in others:
            known = sorted(watcher.kernel.attributes)
            use = {inode for inode in known if watcher.dice.random() < pinned}
            watcher.kernel.pinned = use
            history.apply(step if isinstance(step, tuple) else ("edit", step, False))
            await watcher.refresh()
            await watcher.check()


@pytest.mark.parametrize("spec", [1, 2])
@pytest.mark.parametrize("name", EDITS)
async def test_after_a_refresh_nobody_sees_what_was(name, spec, tmp_path):
    for number, pinned in enumerate((0, 1, 0.3, 0.6)):
        directory = tmp_path / str(number)
        directory.mkdir()
        await follow(History(directory, spec), EDITS[name], number, pinned)


MOVES = [
    [*line("g/a"), *square("g/h/b"), ("group", "g"), ("group", "g/h")],
    ("move", "g/a", "a"),
    ("move", "g/h", "h"),
    [chunk("a", 1, size=9)],
    ("move", "g", "x"),
    ("move", "h/b", "x/b"),
    ("move", "a", "g"),
    ("reset", 2),
    ("recreate", 4),
]


@pytest.mark.parametrize("pinned", [0, 1, 0.3])
async def test_what_moves_is_seen_where_it_is(pinned, tmp_path):
    await follow(History(tmp_path, 2), MOVES, 1, pinned)


async def test_arrays_that_change_places(tmp_path):
    history = History(tmp_path, 2)
    history.apply(("edit", [*line("a"), *line("b", 3), ("group", "")], False))
    async with driving(history.url) as driven:
        root = await driven.find("branch/main")
        watcher = Watcher(history, driven, root, random.Random(1))
        for _ in range(3):
            await watcher.check()
            watcher.kernel.pinned = set(watcher.kernel.attributes)
            session = history.repo.rearrange_session("main")
            for source, target in (("/a", "/x"), ("/b", "/a"), ("/x", "/b")):
                session.move(source, target)
            session.commit("swapped")
            history.is_straight = False
            history.note()
            await watcher.refresh()


@pytest.mark.parametrize("pinned", [0, 1, 0.5])
async def test_more_changes_than_are_named_one_by_one(pinned, tmp_path, monkeypatch):
    monkeypatch.setattr(staleness, "ONE_BY_ONE_MAX", 3)
    edits = [
        [*square("a"), *line("")],
        [chunk("a", n, 0, size=9) for n in range(2)],
        [chunk("a", n, m, size=8) for n in range(3) for m in range(2)],
        [chunk("", n, size=7) for n in range(4)],
    ]
    await follow(History(tmp_path, 2), edits, 1, pinned)


async def test_the_edits_are_what_they_say(tmp_path):
    """None of them is refused, else the tests above would test nothing."""
    for number, (name, edits) in enumerate(EDITS.items()):
        directory = tmp_path / str(number)
        directory.mkdir()
        history = History(directory, 2)
        for edit in edits:
            before = history.tip
            history.apply(("edit", edit, False))
            assert history.tip != before, name
            assert history.refused == [], name
