"""Random sessions: whatever was moved, copied, removed and written, commits hold what was shown."""

import random
import re

import pytest

from tests.compat.documents import GROUP, array_document, put_all
from tests.compat.place import changing, create, local_place
from tests.fs.branches import Branch, writing

CHUNK = re.compile(r"c/(0|[1-9][0-9]?)")
NAMES = ["a", "b", "d", "e", "f"]


def line(mark):
    return array_document((100,), (1,), attributes={"mark": mark})


class Session:
    """Draws changes of a branch, in which all arrays have one dimension."""

    def __init__(self, branch: Branch, rng: random.Random) -> None:
        self.branch = branch
        self.rng = rng
        self.count = 0

    def _data(self):
        self.count += 1
        return b"%d," % self.count * self.rng.choice([1, 300])

    def _nodes(self):
        """Return the directories that have a zarr.json, and whether it is an array's."""
        return {
            path.removesuffix("zarr.json").rstrip("/"): b'"array"' in data
            for path, data in self.branch.files().items()
            if path.endswith("zarr.json")
        }

    def untracked(self):
        """Return the files that are neither a zarr.json nor a chunk."""
        nodes = self._nodes()
        found = []
        for path in self.branch.files():
            above = path.rpartition("/")[0]
            while above not in nodes and above:
                above = above.rpartition("/")[0]
            below = path.removeprefix(above).lstrip("/")
            is_chunk = nodes.get(above, False) and CHUNK.fullmatch(below)
            if not (is_chunk or path.endswith("zarr.json")):
                found.append(path)
        return found

    def _pick(self, *, arrays=None, root=False):
        nodes = [p for p, is_array in self._nodes().items() if arrays in (None, is_array)]
        nodes = [p for p in nodes if p or root]
        return self.rng.choice(sorted(nodes)) if nodes else None

    def _chunks(self):
        arrays = [path for path, is_array in self._nodes().items() if is_array]
        return sorted(p for p in self.branch.files() if p.rpartition("/c/")[0] in arrays)

    def _new_path(self):
        for _ in range(20):
            above = self._pick(arrays=False, root=True) or ""
            path = f"{above}/{self.rng.choice(NAMES)}".lstrip("/")
            if not (self.branch.shadow / path).exists():
                return path
        return None

    async def new_array(self):
        path = self._new_path()
        if path:
            await self.branch.write(f"{path}/c/0", self._data())
            await self.branch.write(f"{path}/zarr.json", line(self.count))

    async def new_group(self):
        path = self._new_path()
        if path:
            await self.branch.write(f"{path}/zarr.json", GROUP)

    async def write_chunk(self):
        path = self._pick(arrays=True)
        if path:
            await self.branch.write(f"{path}/c/{self.rng.randrange(12)}", self._data())

    async def remove_chunk(self):
        chunks = self._chunks()
        if chunks:
            await self.branch.unlink(self.rng.choice(chunks))

    async def move_chunk(self):
        chunks = self._chunks()
        if chunks:
            source = self.rng.choice(chunks)
            above = self.rng.choice(chunks).rpartition("/")[0]
            target = f"{above}/{self.rng.randrange(12)}"
            if source != target:
                await self.branch.move(source, target)

    async def exchange_chunks(self):
        paths = sorted({path.rpartition("/")[0] for path in self._chunks()})
        if len(paths) > 1:
            first, second = self.rng.sample(paths, 2)
            await self._exchange(first, second)

    async def change_metadata(self):
        path = self._pick()
        if path and self._nodes()[path]:
            self.count += 1
            await self.branch.write(f"{path}/zarr.json", line(self.count))
        elif path:
            self.count += 1
            document = GROUP.replace(b"{}", b'{"n":%d}' % self.count)
            await self.branch.write(f"{path}/zarr.json", document)

    async def write_other(self):
        path = self._pick()
        if path:
            await self.branch.write(f"{path}/{self.rng.choice(['notes', 'c/x'])}", self._data())

    async def remove(self):
        path = self._pick()
        if path:
            await self.branch.remove(path)

    async def move(self):
        source, target = self._pick(), self._new_path()
        if source and target and not f"{target}/".startswith(f"{source}/"):
            await self.branch.move(source, target)

    async def copy(self):
        source, target = self._pick(), self._new_path()
        if source and target:
            if f"{target}/".startswith(f"{source}/"):
                return  # cp -r would go on for ever
            await self.branch.copy(source, target)

    async def exchange(self):
        first, second = self._pick(), self._pick()
        if first and second:
            await self._exchange(first, second)

    async def _exchange(self, first, second):
        if f"{first}/".startswith(f"{second}/") or f"{second}/".startswith(f"{first}/"):
            return
        await self.branch.move(first, "between")
        await self.branch.move(second, first)
        await self.branch.move("between", second)

    async def change(self):
        often = [self.write_chunk, self.move, self.copy, self.exchange, self.new_array]
        seldom = [self.new_group, self.remove_chunk, self.change_metadata, self.write_other]
        seldom += [self.remove, self.move_chunk, self.exchange_chunks]
        await self.rng.choice(often + often + seldom)()


async def run(seed, repo, state, *, steps):
    rng = random.Random(seed)
    for life in range(3):
        async with writing(repo, state) as branch:
            session = Session(branch, rng)
            session.count = 1000 * life + 1000
            await branch.assert_shows_the_same()
            for _ in range(3):
                for _ in range(rng.randrange(1, steps)):
                    await session.change()
                if rng.random() < 0.3:
                    await branch.assert_shows_the_same()
                before = branch.files()
                told = await branch.told()
                wanted = session.untracked()
                assert told.get("untracked", []) == sorted(f"/{path}" for path in wanted)
                if set(told) - {"untracked"}:
                    await branch.assert_syncs(wanted)
                else:
                    await branch.assert_sync_does_nothing()
                assert branch.files() == before
            for _ in range(rng.randrange(3)):
                await session.change()


def prepared(tmp_path, spec):
    place = local_place(tmp_path)
    with changing(create(place, spec), "base") as store:
        put_all(store, {"zarr.json": GROUP, "a/zarr.json": GROUP, "a/b/zarr.json": line(0)})
        put_all(store, {"d/zarr.json": line(1), "a/e/zarr.json": GROUP, "a/e/f/zarr.json": line(2)})
        put_all(store, {f"a/b/c/{n}": b"b%d" % n * 300 for n in range(5)})
        put_all(store, {f"d/c/{n}": b"d%d" % n for n in range(5)})
        put_all(store, {f"a/e/f/c/{n}": b"f%d" % n for n in range(5)})
    return tmp_path / "repository"


@pytest.mark.parametrize("seed", range(8))
async def test_random_sessions(tmp_path, seed):
    await run(seed, prepared(tmp_path, 1 + seed % 2), tmp_path / "state", steps=8)


@pytest.mark.long
@pytest.mark.timeout(3000)
async def test_many_random_sessions(tmp_path):
    for seed in range(100, 900):
        place = tmp_path / str(seed)
        place.mkdir()
        await run(seed, prepared(place, 1 + seed % 2), place / "state", steps=12)
