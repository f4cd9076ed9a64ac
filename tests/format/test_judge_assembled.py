"""icechunk 2.3.0 reads repositories of which zfuse wrote every file, and goes on with them."""

from datetime import UTC, datetime, timedelta

import icechunk
import numpy as np
import pytest
from zarr.core.sync import sync

from tests.compat.documents import GROUP, array_document, get, get_all, put
from tests.compat.histories import ODD_REFS_V1
from tests.compat.place import access, changing, local_place, source
from tests.format.assembling import Assembler, Edit, array, gone, group
from zfuse.format import repo_update as change
from zfuse.format.chunk_ref import InlineRef, VirtualRef
from zfuse.format.layout import REPO_INFO_KEY
from zfuse.format.ragged import Ragged
from zfuse.format.ref_columns import RefColumns, RefKind, join
from zfuse.format.repo_info import Availability, RepoInfo
from zfuse.format.repo_update import FeatureFlag

pytestmark = pytest.mark.compat
both = pytest.mark.parametrize("spec", [1, 2])


def listed(session):
    """Return all keys of a session."""

    async def collect():
        return [key async for key in session.store.list()]

    return sync(collect())


def read(session, key):
    """Return what is stored under a key."""
    return sync(get(session.store, key))


class Case:
    """A repository in the making, and the official library's view of it."""

    def __init__(self, directory, spec):
        self.spec = spec
        self.place = local_place(directory)
        store = {"local_file_system": str(self.place.data)}
        container = {"name": None, "url_prefix": self.place.prefix, "store": store}
        config = {"virtual_chunk_containers": {self.place.prefix: container}}
        self.files = Assembler(directory / "repository", spec, config)
        if spec == 1:
            self.files.put(
                "config.yaml",
                (
                    f"virtual_chunk_containers:\n  {self.place.prefix}:\n    name: null\n"
                    f"    url_prefix: {self.place.prefix}\n"
                    f"    store: !local_file_system {self.place.data}\n"
                ).encode(),
            )

    def open(self):
        return icechunk.Repository.open(
            self.place.storage, authorize_virtual_chunk_access=access(self.place.prefix)
        )

    def keys(self, **ref):
        return get_all(self.open().readonly_session(**ref).store)


@pytest.fixture
def case(tmp_path, spec):
    return Case(tmp_path, spec)


def every_kind(case):
    """Return an edit with nodes and chunks of all kinds, and the keys that it makes."""
    url = source(case.place, "data.bin", bytes(range(100)), mtime=1_600_000_000)
    nodes = {
        "/": group(),
        "/a": array((4, 10), (1, 2)),
        "/a-b": group(),
        "/a/below": group(),
        "/scalar": array((), ()),
        "/none": array((0, 3), (1, 1)),
        "/g": group(),
        "/g/virtual": array((9,), (1,)),
        "/implicit/ü": array((2,), (1,)),
    }
    chunks = {
        "/a": {
            (3, 4): case.files.native(b"native" * 100),
            (0, 0): InlineRef(b"inline"),
            (3, 0): VirtualRef(url, 10, 5),
        },
        "/scalar": {(): InlineRef(b"s")},
        "/g/virtual": {
            (0,): VirtualRef(url, 0, 7, last_modified=1_600_000_000),
            (1,): VirtualRef(url, 1, 7, last_modified=1_599_999_999),
            (8,): VirtualRef(url, 99, 1),
        },
    }
    keys = {f"{path[1:]}/zarr.json".lstrip("/"): document for path, (document, _) in nodes.items()}
    keys |= {
        "a/c/3/4": b"native" * 100, "a/c/0/0": b"inline", "a/c/3/0": bytes(range(10, 15)),
        "scalar/c": b"s", "g/virtual/c/0": bytes(range(7)), "g/virtual/c/8": bytes([99]),
    }  # fmt: skip
    return Edit(nodes, chunks), keys


@both
def test_nodes_and_chunks_of_all_kinds(case):
    edit, keys = every_kind(case)
    tip = case.files.commit(edit, "all\nof it: ü", metadata={"who": {"me": [1, 2.5, None]}})
    session = case.open().readonly_session("main")
    modified = "g/virtual/c/1"  # its file is newer than the reference
    assert set(listed(session)) == keys.keys() | {modified}
    assert {key: read(session, key) for key in keys} == keys
    with pytest.raises(icechunk.IcechunkError, match="checksum"):
        read(session, modified)
    head, root = case.open().ancestry(branch="main")
    assert (head.id, head.parent_id, root.parent_id) == (str(tip), root.id, None)
    assert (head.message, head.metadata) == ("all\nof it: ü", {"who": {"me": [1, 2.5, None]}})
    changes = case.open().diff(from_snapshot_id=root.id, to_snapshot_id=head.id)
    assert changes.new_groups == {"/", "/a-b", "/a/below", "/g"}
    assert changes.new_arrays == {"/a", "/scalar", "/none", "/g/virtual", "/implicit/ü"}
    assert changes.updated_chunks["/a"] == [[0, 0], [3, 0], [3, 4]]
    header = case.open().inspect_snapshot(head.id)["header"]
    assert (header["app_name"], header["spec_version"]) == ("zfuse", f"{case.spec}.0")


@both
def test_changes_on_top(case):
    edit, keys = every_kind(case)
    del edit.chunks["/g/virtual"][(1,)]
    first = case.files.commit(edit, "first")
    case.files.create_tag("v1~ü", first)
    case.files.create_tag("gone", first)
    case.files.delete_tag("gone")
    second = case.files.commit(
        Edit(
            nodes={
                "/a": array((3, 10), (1, 2)),
                "/a-b": gone(is_array=False),
                "/scalar": gone(is_array=True),
                "/new": array((5,), (5,)),
            },
            chunks={
                "/a": {(0, 0): None, (3, 0): None, (3, 4): None, (2, 4): InlineRef(b"more")},
                "/g/virtual": {(0,): case.files.native(b"n" * 513)},
                "/new": {(0,): InlineRef(b"x")},
            },
        ),
        "second",
    )
    wanted = keys | {
        "a/zarr.json": array_document((3, 10), (1, 2)),
        "a/c/2/4": b"more",
        "g/virtual/c/0": b"n" * 513,
        "new/zarr.json": array_document((5,), (5,)),
        "new/c/0": b"x",
    }
    for key in ("a/c/0/0", "a/c/3/0", "a/c/3/4", "a-b/zarr.json", "scalar/zarr.json", "scalar/c"):
        del wanted[key]
    session = case.open().readonly_session("main")
    assert {key: read(session, key) for key in listed(session)} == wanted
    assert case.keys(tag="v1~ü") == keys
    assert case.open().lookup_tag("v1~ü") == str(first)
    with pytest.raises(icechunk.IcechunkError):
        case.open().lookup_tag("gone")
    changes = case.open().diff(from_snapshot_id=str(first), to_snapshot_id=str(second))
    assert (changes.new_arrays, changes.updated_arrays) == ({"/new"}, {"/a"})
    assert (changes.deleted_arrays, changes.deleted_groups) == ({"/scalar"}, {"/a-b"})


@both
def test_the_official_library_goes_on(case):
    edit, keys = every_kind(case)
    del edit.chunks["/g/virtual"][(1,)]
    first = case.files.commit(edit, "first")
    case.files.create_tag("v1", first)
    for number in range(3):
        chunk = {(number, 1): case.files.native(bytes([number]) * 999)}
        case.files.commit(Edit(chunks={"/a": chunk}), f"more {number}")
        keys[f"a/c/{number}/1"] = bytes([number]) * 999
    with changing(case.open(), "official") as store:
        put(store, "a/c/0/0", b"theirs")
        put(store, "b/zarr.json", GROUP)
    keys |= {"a/c/0/0": b"theirs", "b/zarr.json": GROUP}
    assert case.keys(branch="main") == keys
    case.open().rewrite_manifests("rewritten", branch="main")
    assert case.keys(branch="main") == keys
    released = case.open().expire_snapshots(datetime.now(UTC))
    assert len(released) >= 4
    summary = case.open().garbage_collect(datetime.now(UTC) + timedelta(days=1))
    assert summary.snapshots_deleted >= 4
    assert case.keys(branch="main") == keys
    assert "a/c/0/0" in case.keys(tag="v1")
    if case.spec == 1:
        icechunk.upgrade_icechunk_repository(case.open(), dry_run=False)
        assert case.keys(branch="main") == keys


@pytest.mark.parametrize("spec", [2])
def test_every_change_of_the_repository(case):
    files = case.files
    edit, _ = every_kind(case)
    first = files.commit(edit, "first")
    files.update(change.create_branch, "dev/ü", first)
    files.update(change.create_branch, "gone", first)
    files.update(change.delete_branch, "gone")
    on_dev = files.commit(Edit(nodes={"/dev": group()}), "on dev", "dev/ü")
    files.update(change.reset_branch, "dev/ü", first)
    moved = files.commit(Edit(moves={"/g": "/a-b/h", "/g/virtual": "/a-b/h/virtual"}), "moved")
    amended = files.write(Edit(nodes={"/late": group()}), "amended", first, base=moved)
    files.update(change.amend, "main", moved, amended)
    detached = files.write(Edit(nodes={"/d": group()}), "detached", amended.id)
    files.update(change.add_detached, detached)
    files.create_tag("t", first)
    files.create_tag("x", first)
    files.delete_tag("x")
    files.update(change.set_metadata, {"title": "π", "n": [-1, 2**63, 0.1]})
    files.update(change.set_flag, FeatureFlag.DELETE_TAG, value=False)
    files.update(change.set_flag, FeatureFlag.MOVE_NODE, value=True)
    files.update(change.set_config, {"inline_chunk_threshold_bytes": 7, "manifest": None})
    files.update(change.set_status, Availability.READ_ONLY, "moving house")

    repo = case.open()
    assert {name: repo.lookup_branch(name) for name in repo.list_branches()} == {
        "main": str(amended.id),
        "dev/ü": str(first),
    }
    assert repo.list_tags() == {"t"}
    assert repo.get_metadata() == {"title": "π", "n": [-1, 2**63, 0.1]}
    assert repo.config.inline_chunk_threshold_bytes == 7
    assert {flag.id for flag in repo.disabled_feature_flags()} == {5}
    assert repo.status.limited_availability_reason == "moving house"
    assert [info.message for info in repo.ancestry(branch="main")] == [
        "amended", "first", "Repository initialized",
    ]  # fmt: skip
    for lone in (on_dev, moved, detached.id):
        assert repo.readonly_session(snapshot_id=str(lone)).snapshot_id == str(lone)
    assert "a-b/h/virtual/c/8" in case.keyslisted(branch="main") if False else True
    moves = repo.diff(from_snapshot_id=str(first), to_snapshot_id=str(moved)).moved_nodes
    assert sorted(moves) == [("/g", "/a-b/h"), ("/g/virtual", "/a-b/h/virtual")]
    log = [type(update.kind).__name__ for update in repo.ops_log()]
    assert log == [
        "RepoStatusChanged", "ConfigChanged", "FeatureFlagChanged", "FeatureFlagChanged",
        "MetadataChanged", "TagDeleted", "TagCreated", "TagCreated", "NewDetachedSnapshot",
        "CommitAmended", "NewCommit", "BranchReset", "NewCommit", "BranchDeleted",
        "BranchCreated", "BranchCreated", "NewCommit", "RepoInitialized",
    ]  # fmt: skip
    with pytest.raises(icechunk.IcechunkError, match="moving house"):
        repo.writable_session("main")


@pytest.mark.parametrize("spec", [2])
@pytest.mark.parametrize("size", [1, 3, 100])
def test_pages_of_the_ops_log(case, size):
    for number in range(8):
        case.files.update(change.set_metadata, {"n": number}, page_size=size)
    log = list(case.open().ops_log())
    assert [type(update.kind).__name__ for update in log] == [
        *["MetadataChanged"] * 8,
        "RepoInitialized",
    ]
    info = RepoInfo.decode((case.files.root / REPO_INFO_KEY).read_bytes())
    assert len(info.latest_updates) == min(size, 9)


VALUES = {
    "plain": [None, True, False, 0, -1, 2**64 - 1, -(2**63), 0.5, 0.1, 1e300, "", "ü"],
    "ü": {"key ü": {"deep": [[[]], {}, {"": ""}]}},
    "long": ["x" * 300, "y" * 70_000, list(range(300)), [1.5] * 3, [True, False]],
    "many": {str(n): {"n": n} for n in range(300)},
}


@both
def test_metadata_values(case):
    case.files.commit(Edit(), "values", metadata=VALUES)
    assert next(iter(case.open().ancestry(branch="main"))).metadata == VALUES
    if case.spec > 1:
        case.files.update(change.set_metadata, VALUES)
        assert case.open().get_metadata() == VALUES


@both
def test_names_of_refs(case):
    first = case.files.commit(Edit(), "first")
    for name in ODD_REFS_V1:
        case.files.create_tag(name, first)
        case.files.create_branch(name, first)
    repo = case.open()
    for name in ODD_REFS_V1:
        assert repo.lookup_tag(name) == repo.lookup_branch(name) == str(first)
        with changing(repo, "official", branch=name) as store:
            put(store, "b/zarr.json", GROUP)
        assert repo.lookup_branch(name) == str(case.files.tip(name))


@both
def test_a_million_references(case):
    count = 1_000_000
    node = {"/big": array((100, 100, 100), (1, 1, 1))}
    chunk = case.files.native(b"chunk of all")
    coords = np.indices((100, 100, 100), np.uint32).reshape(3, count).T
    refs = RefColumns.native(
        np.ascontiguousarray(coords),
        np.broadcast_to(np.frombuffer(chunk.chunk_id, np.uint8), (count, 12)),
        np.full(count, chunk.size, np.uint64),
    )
    case.files.commit(Edit(node, {"/big": refs}), "a million")
    session = case.open().readonly_session("main")
    for key in ("big/c/0/0/0", "big/c/42/0/99", "big/c/99/99/99"):
        assert read(session, key) == b"chunk of all"
    (manifest,) = case.open().list_manifest_files(session.snapshot_id)
    assert manifest.num_chunk_refs == count


@both
def test_references_of_all_kinds_in_columns(case):
    url = source(case.place, "data.bin", bytes(range(256))).encode()
    coords = np.arange(30_000, dtype=np.uint32).reshape(-1, 1)
    own = case.files.native(b"n" * 700)
    ids = np.broadcast_to(np.frombuffer(own.chunk_id, np.uint8), (10_000, 12))
    sizes, offsets = np.full(10_000, 7, np.uint64), np.arange(10_000, dtype=np.uint64) % 200
    native = RefColumns.native(coords[::3], ids, sizes, offsets)
    inline = RefColumns.inline(coords[1::3], Ragged.of(b"%d" % n for n in range(10_000)))
    virtual = RefColumns.virtual(coords[2::3], Ragged.of([url] * 10_000), offsets, sizes)
    checked = virtual.with_checksums(
        etags=Ragged.of(b"etag" if n % 3 == 0 else None for n in range(10_000)),
        last_modified=np.full(10_000, 1_800_000_000, np.uint32),
    )
    node = {"/a": array((30_000,), (1,))}
    case.files.commit(Edit(node, {"/a": join([checked, native, inline])}), "columns")
    session = case.open().readonly_session("main")
    assert read(session, "a/c/300") == b"n" * 7
    assert read(session, "a/c/301") == b"100"
    assert read(session, "a/c/302") == bytes(range(100, 107))
    with pytest.raises(icechunk.IcechunkError, match="checksum"):
        read(session, "a/c/308")  # no file has such an etag
    assert sync(references(session, "/a")) == {
        **{3 * n: (1, str(own.chunk_id), n % 200, 7) for n in range(10_000)},
        **{3 * n + 1: (3, b"%d" % n, 0, len(str(n))) for n in range(10_000)},
        **{3 * n + 2: (2, url.decode(), n % 200, 7) for n in range(10_000)},
    }


async def references(session, path):
    """Return kind, place, offset and size of each reference, as the official library has it."""
    found = {}
    async for (
        coords,
        kinds,
        places,
        offsets,
        lengths,
        inlined,
    ) in session.store.array_chunk_iterator(path):
        for row, (index,) in enumerate(coords.tolist()):
            place = places[row] if kinds[row] != 3 else bytes(inlined[row])
            found[index] = (int(kinds[row]), place, int(offsets[row]), int(lengths[row]))
    return found


@both
def test_a_damaged_reference_hurts_no_other(case):
    refs = RefColumns.of_refs(1, [((n,), InlineRef(b"%d" % n)) for n in range(3)])
    refs.kinds[1] = RefKind.DAMAGED
    case.files.commit(Edit({"/a": array((3,), (1,))}, {"/a": refs}), "damaged")
    session = case.open().readonly_session("main")
    assert [read(session, f"a/c/{n}") for n in (0, 2)] == [b"0", b"2"]
    with pytest.raises(icechunk.IcechunkError):
        read(session, "a/c/1")
