"""Branches and tags of version 1, as files."""

import pytest

from tests.compat.histories import ODD_REFS_V1
from tests.compat.place import local_place
from tests.compat.repositories import build
from tests.counting import CountingStorage
from zfuse.errors import (
    CorruptionError,
    ObjectNotFoundError,
    RepositoryNotFoundError,
    StorageTimeoutError,
)
from zfuse.format.ids import SnapshotId
from zfuse.repo.refs_v1 import fetch_refs, parse_ref
from zfuse.repo.repository import fetch_state
from zfuse.storage.local import LocalStorage
from zfuse.storage.memory import MemoryStorage

ID = SnapshotId(b"snapshot id!")
REF = b'{"snapshot":"%s"}' % str(ID).encode()


@pytest.fixture
def storage():
    return CountingStorage(MemoryStorage())


async def put_all(storage, *names, **files):
    for name in names:
        await storage.put(f"refs/{name}/ref.json", REF)
    for name, data in files.items():
        await storage.put(f"refs/{name}", data)


@pytest.mark.compat
async def test_odd_names_come_back_from_a_local_directory(tmp_path):
    made = build("refs_v1", 1, local_place(tmp_path))
    refs = await fetch_refs(LocalStorage(tmp_path / "repository"), encoded_names=True)
    assert {name: str(target) for name, target in refs.branches.items()} == made.branches
    assert {name: str(target) for name, target in refs.tags.items()} == made.tags
    assert refs.deleted_tags == ("weg ü",)
    assert set(ODD_REFS_V1) < refs.branches.keys()


async def test_elsewhere_names_are_keys_as_they_are(storage):
    await put_all(storage, "branch.main", "branch.%2F", "branch.ü", "tag.a.b", "tag.")
    refs = await fetch_refs(storage, encoded_names=False)
    assert set(refs.branches) == {"main", "%2F", "ü"}
    assert set(refs.tags) == {"a.b", ""}
    assert refs.branches["main"] == ID


async def test_a_tag_with_a_tombstone_is_gone(storage):
    await put_all(storage, "branch.main", "tag.v1", "tag.v2")
    await storage.put("refs/tag.v1/ref.json.deleted", b"")
    refs = await fetch_refs(storage, encoded_names=False)
    assert set(refs.tags) == {"v2"}
    assert refs.deleted_tags == ("v1",)


async def test_other_files_are_no_refs(storage):
    await put_all(storage, "branch.main", "other.x")
    await storage.put("refs/branch.main/ref.json.bak", b"x")
    await storage.put("refs/readme", b"x")
    await storage.put("refs/branch.main/sub/thing", b"x")
    refs = await fetch_refs(storage, encoded_names=False)
    assert (set(refs.branches), set(refs.tags)) == ({"main"}, set())


async def test_a_branch_that_goes_while_its_name_is_read_is_gone(storage):
    await put_all(storage, "branch.main", "branch.dev")

    async def vanish(operation, key):
        if operation == "get" and "dev" in key:
            await storage.inner.delete(key)

    storage.before = vanish
    assert set((await fetch_refs(storage, encoded_names=False)).branches) == {"main"}


async def test_a_branch_that_is_renamed_meanwhile_is_found(storage):
    """Else garbage collection would take its snapshots."""
    await put_all(storage, "branch.main", "branch.old")

    async def rename(operation, key):
        if operation == "get" and "old" in key:
            await storage.inner.put("refs/branch.new/ref.json", REF)
            await storage.inner.delete(key)

    storage.before = rename
    assert set((await fetch_refs(storage, encoded_names=False)).branches) == {"main", "new"}


async def test_a_ref_that_is_listed_and_never_there_is_gone(storage):
    await put_all(storage, "branch.main", "branch.ghost")

    async def hide(operation, key):
        if operation == "get" and "ghost" in key:
            raise ObjectNotFoundError(key)

    storage.before = hide
    assert set((await fetch_refs(storage, encoded_names=False)).branches) == {"main"}


async def test_a_ref_that_can_not_be_read_is_an_error_and_never_a_ref_that_is_not_there(storage):
    await put_all(storage, "branch.main", "branch.dev", "tag.v1")

    async def fail(operation, key):
        if operation == "get" and "dev" in key:
            raise StorageTimeoutError("too late")

    storage.before = fail
    with pytest.raises(StorageTimeoutError):
        await fetch_refs(storage, encoded_names=False)
    storage.before = None
    await storage.put("refs/tag.v1/ref.json", b"{}")
    with pytest.raises(CorruptionError, match=r"refs/tag\.v1/ref\.json"):
        await fetch_refs(storage, encoded_names=False)


@pytest.mark.parametrize("text", [REF, b' {"snapshot": "%s"}\n' % str(ID).lower().encode()])
def test_a_ref_is_json(text):
    assert parse_ref(text, "key") == ID


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'"x"',
        b'{"snapshot":1}',
        b'{"snapshot":"x"}',
        b"\xff",
        b"[" * 9999,
    ],
)
def test_what_is_no_ref_is_corrupt(text):
    with pytest.raises(CorruptionError, match="does not name a snapshot"):
        parse_ref(text, "key")


async def test_a_repository_that_is_moved_away_meanwhile_is_not_one_without_branches(storage):
    await put_all(storage, "branch.main", "branch.old")

    async def move_away(operation, key):
        if operation == "list":
            for name in ("main", "old"):
                await storage.inner.delete(f"refs/branch.{name}/ref.json")

    storage.before = move_away
    with pytest.raises(RepositoryNotFoundError):
        await fetch_state(storage)
