"""A branch that changes in every way: after each refresh a mount shows what it holds, no more."""

import contextlib
import os
import random

import pytest

from tests.compat.documents import DOT, GROUP, V2_SLASH, array_document, delete, put
from tests.compat.oracle import Ref, assert_shows, official_keys
from tests.compat.place import create, local_place

pytestmark = [pytest.mark.compat, pytest.mark.fuse]

PATHS = ["a", "g", "g/a", "g/b", "g/h", "g/h/a", "a/c", "a/c/0", "b"]


class History:
    """Random commits to the branch main."""

    def __init__(self, repo, seed):
        self.repo = repo
        self.dice = random.Random(seed)
        self.snapshots = [repo.lookup_branch("main")]
        self.arrays = {}

    def advance(self):
        """Change something and commit it, or reset the branch to any earlier snapshot."""
        if len(self.snapshots) > 3 and self.dice.random() < 0.15:
            self.repo.reset_branch("main", self.dice.choice(self.snapshots))
        elif self.repo.spec_version > 1 and self.dice.random() < 0.15:
            self._move()
        else:
            self._edit()
        tip = self.repo.lookup_branch("main")
        self.snapshots.append(tip)
        return tip

    def _edit(self):
        session = self.repo.writable_session("main")
        for _ in range(self.dice.randint(1, 4)):
            kind = self.dice.choice(
                [self._array, self._chunks, self._chunks, self._group, self._cut]
            )
            # Not everything is possible at all times, and the library says so.
            with contextlib.suppress(Exception):
                kind(session.store)
        session.commit("edit", allow_empty=True)

    def _array(self, store):
        path = self.dice.choice(PATHS)
        rank = self.dice.randint(0, 2)
        shape = [self.dice.choice([1, 3, 6, 9]) for _ in range(rank)]
        encoding = self.dice.choice([{"name": "default"}, {"name": "default"}, DOT, V2_SLASH])
        if path in self.arrays and self.dice.random() < 0.6:  # a new shape for an old array
            shape = [self.dice.choice([1, 3, 6, 9]) for _ in self.arrays[path]]
            encoding = {"name": "default"}
        document = array_document(shape, [1] * len(shape), chunk_key_encoding=encoding)
        put(store, f"{path}/zarr.json", document)
        self.arrays[path] = shape

    def _chunks(self, store):
        path = self.dice.choice(sorted(self.arrays))
        for _ in range(self.dice.randint(1, 6)):
            coords = [str(self.dice.randrange(length)) for length in self.arrays[path]]
            key = "/".join([path, "c", *coords])
            if self.dice.random() < 0.25:
                delete(store, key)
            else:
                put(store, key, self.dice.randbytes(self.dice.choice([1, 20, 600])))

    def _group(self, store):
        path = self.dice.choice(PATHS)
        put(store, f"{path}/zarr.json", GROUP.replace(b"{}", b'{"n":%d}' % self.dice.randrange(99)))
        self.arrays.pop(path, None)

    def _cut(self, store):
        delete(store, f"{self.dice.choice(PATHS)}/zarr.json")

    def _move(self):
        session = self.repo.rearrange_session("main")
        source, target = self.dice.sample(["/g", "/g/h", "/b", "/moved", "/g/moved"], 2)
        with contextlib.suppress(Exception):
            session.move(source, target)
        session.commit("move", allow_empty=True)


def pin_something(dice, root):
    """Return descriptors of some files and directories, in every way that pins them."""
    places = [root, *root.rglob("*")]
    ways = (os.O_RDONLY, os.O_PATH)
    return [os.open(path, dice.choice(ways)) for path in dice.sample(places, min(5, len(places)))]


def follow(repo, seed, mounts, steps):
    history = History(repo, seed)
    pinned = []
    roots = [mounts[0].path / "branch/main", mounts[1].path]
    try:
        for _ in range(steps):
            tip = history.advance()
            official = official_keys(repo, Ref("snapshot", tip))
            for mount, root in zip(mounts, roots, strict=True):
                mount.call("refresh")
                assert_shows(root, official)
                pinned += pin_something(history.dice, root)
            while len(pinned) > 30:
                os.close(pinned.pop(history.dice.randrange(len(pinned))))
    finally:
        for descriptor in pinned:
            os.close(descriptor)


def check(tmp_path, mounted, spec, seed, steps):
    repo = create(local_place(tmp_path), spec)
    place = tmp_path / "repository"
    follow(repo, seed, [mounted(place), mounted(place, "--branch", "main")], steps)


@pytest.mark.parametrize("spec", [1, 2])
@pytest.mark.parametrize("seed", [1, 2])
def test_every_refresh_shows_the_tip(spec, seed, mounted, tmp_path):
    check(tmp_path, mounted, spec, seed, steps=25)


@pytest.mark.long
@pytest.mark.parametrize("spec", [1, 2])
@pytest.mark.parametrize("seed", range(100, 110))
def test_every_refresh_shows_the_tip_for_long(spec, seed, mounted, tmp_path):
    check(tmp_path, mounted, spec, seed, steps=150)
