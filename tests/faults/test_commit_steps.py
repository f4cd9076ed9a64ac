"""The store goes down, or the process dies, at each step of a commit: it lands once or not."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from tests.compat.documents import GROUP, array_document
from tests.repo.driving import (
    NoVirtualChunks,
    official,
    open_repository,
    open_session,
    session_keys,
    zfuse_keys,
)
from tests.repo.editing import official_keys
from tests.repo.stores import another, history, keys
from zfuse.errors import OutcomeUnknownError, StorageError, StorageTimeoutError
from zfuse.format.chunk_ref import InlineRef
from zfuse.format.ids import NodeId, SnapshotId
from zfuse.repo.change_set import ChangeSet, NewNode
from zfuse.repo.commit import has_landed
from zfuse.repo.create import create_repository
from zfuse.repo.documents import parse_document
from zfuse.repo.new_ids import new_id
from zfuse.repo.repository import Repository
from zfuse.repo.session import Session
from zfuse.storage.local import LocalStorage
from zfuse.storage.memory import MemoryStorage

LINE = array_document((4,), (1,))
ROOT = Path(__file__).parents[2]


class Failing(MemoryStorage):
    """A store that goes down after ``left`` requests; the last one may be carried out yet."""

    def __init__(self, *, carried_out):
        super().__init__()
        self.left = None
        self.carried_out = carried_out

    async def get(self, key):
        self._count()
        return await super().get(key)

    async def head(self, key):
        self._count()
        return await super().head(key)

    async def delete(self, key):
        self._count()
        await super().delete(key)

    async def put(self, key, data, *, expect=None):
        try:
            self._count()
        except StorageTimeoutError:
            if self.left == -1 and self.carried_out:
                await super().put(key, data, expect=expect)
            if expect is not None:
                raise OutcomeUnknownError("no answer") from None
            raise
        return await super().put(key, data, expect=expect)

    def _count(self):
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise StorageTimeoutError("no answer")


def some_changes(snapshot):
    """Return changes of every kind but moves, which nobody rebases over."""
    nodes = {node.path: node for node in snapshot.nodes}
    document = parse_document(array_document((5,), (1,)), spec_version=snapshot.spec_version)
    changes = ChangeSet(
        new={new_id(NodeId): NewNode("/new", parse_document(GROUP, spec_version=2))},
        updated={nodes["/a"].id: document},
    )
    changes.delete(nodes["/gone"])
    changes.set_chunk(nodes["/a"].id, (4,), InlineRef(b"4"))
    changes.set_chunk(nodes["/a"].id, (0,), None)
    return changes


async def prepare(store, spec_version, *, behind):
    """Return a session with changes, whose branch others moved if it is *behind*."""
    await create_repository(store, spec_version=spec_version)
    theirs = await another(store)
    await theirs.set_metadata("/a", LINE)
    await theirs.set_metadata("/gone", GROUP)
    await theirs.set_chunk("/a", (0,), b"base")
    await theirs.commit("base")
    repository = await Repository.open(store, virtual=NoVirtualChunks())
    session = Session(repository, "main", theirs.base, some_changes(theirs.base))
    if behind:
        await theirs.set_metadata("/theirs", GROUP)
        await theirs.commit("theirs")
    return session


AFTER = {"a/zarr.json": array_document((5,), (1,)), "a/c/4": b"4", "new/zarr.json": GROUP}


HISTORIES = {
    "commit": ["mine", "base"],
    "behind": ["mine", "theirs", "base"],  # others moved the branch
    "amend": ["mine"],
}
WAYS = [(1, "commit"), (1, "behind"), (2, "commit"), (2, "behind"), (2, "amend")]


@pytest.mark.parametrize("carried_out", [False, True])
@pytest.mark.parametrize("crash", [False, True])
@pytest.mark.parametrize(("spec_version", "way"), WAYS)
async def test_the_store_goes_down_at_each_step(spec_version, way, crash, carried_out):
    behind, amends = way == "behind", way == "amend"
    for step in itertools.count():
        store = Failing(carried_out=carried_out)
        session = await prepare(store, spec_version, behind=behind)
        chosen = new_id(SnapshotId)
        write = session.amend if amends else session.commit
        store.left = step
        try:
            await write("mine", snapshot_id=chosen)
        except StorageError as error:
            failed = error
        else:
            break
        store.left = None
        assert session.has_changes, failed
        assert (await session_keys(session)).items() >= AFTER.items()
        if crash:
            await recover(store, session, chosen, amends)
        elif amends:
            await session.amend("mine")
        else:
            await session.commit("mine")
        assert await history(store) == HISTORIES[way], step
        found = await keys(store)
        assert found == AFTER | ({"theirs/zarr.json": GROUP} if behind else {})
    assert step > 5


async def recover(store, session, chosen, amends):
    """Go on as after a crash, with what was written down: base, changes, and the id."""
    repository = await Repository.open(store, virtual=NoVirtualChunks())
    if not await has_landed(repository, "main", chosen):
        base = (await repository.assets.fetch_hierarchy(session.base.id)).snapshot
        again = Session(repository, "main", base, session.changes())
        await (again.amend if amends else again.commit)("mine", snapshot_id=chosen)


@pytest.mark.compat
@pytest.mark.parametrize("spec_version", [1, 2])
def test_the_process_dies_at_each_step(spec_version, tmp_path):
    directory = tmp_path / "r"
    trio.run(begin, directory, spec_version)
    command = [sys.executable, "-m", "tests.faults.dying_writer"]
    command += [json.dumps({"directory": str(directory)})]
    landed = []
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        while True:
            told = json.loads(writer.stdout.readline())
            landed += trio.run(look, directory, told["step"], landed)
            if not told["died"]:
                break
            writer.stdin.write("\n")
            writer.stdin.flush()
    assert told["step"] in landed  # the commit that came through
    assert landed != [told["step"]]  # some died after the write that counts
    assert told["step"] > 15


async def begin(directory, spec_version):
    await create_repository(LocalStorage(directory), spec_version=spec_version)
    session = await open_session(directory)
    await session.set_metadata("/a", array_document((1000,), (1,)))
    await session.commit("base")


async def look(directory, step, landed):
    """Check the repository after the death at *step*; return [step] if that commit is in it."""
    repo = official(directory)
    messages = [info.message for info in repo.ancestry(branch="main")][:-2]
    found = official_keys(repo, repo.lookup_branch("main"))
    new = [step] if messages and messages[0] == f"commit {step}" else []
    steps = [*landed, *new]
    assert {key for key in found if key.startswith("a/c/")} == {f"a/c/{n}" for n in steps}
    assert all(found[f"a/c/{n}"] == b"%d" % n * 600 for n in steps)
    repository = await open_repository(directory)
    assert await zfuse_keys(repository, repository.lookup_branch("main")) == found
    # whoever died holds no lock
    session = await open_session(directory)
    await session.commit(f"after {step}", allow_empty=True)
    assert len(list(repo.ancestry(branch="main"))) == len(messages) + 3
    return new
