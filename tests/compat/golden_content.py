"""What the golden repositories hold; runs under icechunk 1.1.21 and 2.3.0 alike.

Imports neither zfuse nor anything that only one of the two environments has.
"""

import contextlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import icechunk
import numpy as np
import zarr
from icechunk import VirtualChunkSpec
from zarr.abc.store import Store

from tests.compat.documents import DOT, GROUP, V2_DOT, array_document, delete, put, put_all

CONTAINER = "file:///tmp/zfuse-golden/"
"""Where the virtual chunks claim to lie. The files never exist: tests look at the refusal."""

ODD_REFS = ["ü", "100%", "%2F", "x\ny", "#1", "[x]", "a:b", "..", "sp ace"]
SLASH_REFS = ["a/b", "", "n" * 300]
MODIFIED = datetime.fromtimestamp(1_700_000_000, UTC)


def configuration(**options: Any) -> icechunk.RepositoryConfig:
    """Return settings with a container and a splitting rule; *options* are the class's."""
    config = icechunk.RepositoryConfig(inline_chunk_threshold_bytes=100, **options)
    store = icechunk.local_filesystem_store("/tmp/zfuse-golden")
    config.set_virtual_chunk_container(icechunk.VirtualChunkContainer(CONTAINER, store))
    rule = icechunk.ManifestSplitCondition.path_matches("^/split$")
    axis = icechunk.ManifestSplitDimCondition.Axis
    config.manifest = icechunk.ManifestConfig(
        splitting=icechunk.ManifestSplittingConfig.from_dict({rule: {axis(0): 2, axis(1): 3}})
    )
    return config


def modern_configuration() -> icechunk.RepositoryConfig:
    """Return settings that 1.x does not know: a named container, small limits."""
    config = configuration(num_updates_per_repo_info_file=10)
    store = icechunk.local_filesystem_store("/tmp/zfuse-golden/named")
    named = icechunk.VirtualChunkContainer(f"{CONTAINER}named/", store, "named")
    config.set_virtual_chunk_container(named)
    config.manifest.virtual_chunk_location_compression = (
        icechunk.ManifestVirtualChunkLocationCompressionConfig(min_num_chunks=100)
    )
    return config


@contextlib.contextmanager
def changing(repo: icechunk.Repository, message: str, **options: Any) -> Iterator[Any]:
    """Commit what the body does to the store that this gives."""
    session = repo.writable_session(options.pop("branch", "main"))
    yield session.store
    session.commit(message, **options)


def fill(repo: icechunk.Repository, *, zero_length: bool) -> dict[str, dict[str, str]]:
    """Give *repo* the history that every golden repository has; return its odd refs.

    *zero_length* adds a chunk of no bytes, which only 1.x takes.
    """
    with changing(repo, "expires first") as store:
        put_all(store, {"zarr.json": GROUP, "old/zarr.json": array_document((2,), (1,))})
    with changing(repo, "expires too") as store:
        put(store, "old/c/0", b"o")
    last = repo.lookup_snapshot(repo.lookup_branch("main")).written_at
    with changing(repo, "survives") as store:
        put(store, "old/c/1", b"p")
    repo.expire_snapshots(last + timedelta(microseconds=1))
    with changing(
        repo, "nodes\nsecond line: ü", metadata={"by": "golden", "π": [1, -2, 2.5]}
    ) as store:
        _nodes(store, zero_length=zero_length)
        _sharded(store)
    repo.create_tag("v1", repo.lookup_branch("main"))
    repo.create_branch("dev", repo.lookup_branch("main"))
    with changing(
        repo, "on dev", branch="dev", metadata={"deep": {"a": [None, True, "x"]}}
    ) as store:
        put(store, "dev/zarr.json", GROUP)
    with changing(repo, "changes") as store:
        put(store, "a/zarr.json", array_document((2, 6), (2, 2), attributes={"resized": True}))
        put_all(store, {"a/c/0/2": b"wide", "foo/zarr.json": GROUP[:-1] + b" }"})
        delete(store, "dropped/zarr.json")
        delete(store, "native/c/1")
    _virtual(repo)
    repo.create_tag("gone", repo.lookup_branch("dev"))
    repo.delete_tag("gone")
    repo.create_branch("away", repo.lookup_branch("dev"))
    repo.delete_branch("away")
    return _odd_refs(repo, ODD_REFS)


def _odd_refs(repo: icechunk.Repository, names: list[str]) -> dict[str, dict[str, str]]:
    branch, tag = repo.lookup_tag("v1"), repo.lookup_branch("main")
    for name in names:
        repo.create_branch(name, branch)
        repo.create_tag(name, tag)
    return {"branches": dict.fromkeys(names, branch), "tags": dict.fromkeys(names, tag)}


def _nodes(store: Store, *, zero_length: bool) -> None:
    square = array_document((4, 4), (2, 2), dimension_names=["y", None])
    line = array_document((5,), (1,))
    put_all(
        store, dict.fromkeys((f"foo{s}/zarr.json" for s in ("", "-bar", ".bar", "0", "/x")), GROUP)
    )
    put_all(
        store,
        dict.fromkeys((f"odd/{n}/zarr.json" for n in ("ü\n", "n\0l", "p%2F", "l" * 300)), line),
    )
    put_all(store, {"implicit/deep/a/zarr.json": line, "implicit/deep/a/c/4": b"i"})
    put_all(
        store,
        {"a/zarr.json": square, "a/c/0/0": b"0000", "a/c/1/1": b"1111", "a/c/0/1": b"n" * 101},
    )
    put_all(store, {"a/child/zarr.json": GROUP, "a/c/zarr.json": line, "a/c/c/3": b"c"})
    put_all(store, {"native/zarr.json": line, "native/c/0": b"x" * 600, "native/c/1": b"y" * 100})
    put_all(store, {"scalar/zarr.json": array_document((), ()), "scalar/c": b"s"})
    put_all(store, {"empty/zarr.json": array_document((0, 3), (1, 1)), "dropped/zarr.json": line})
    put_all(
        store, {"dropped/c/1": b"d", "rank/zarr.json": square, "rank/c/1": b"1", "rank/c/0/0": b"2"}
    )
    put(store, "dot/zarr.json", array_document((4, 4), (2, 2), chunk_key_encoding=DOT))
    put(store, "v2/zarr.json", array_document((4, 4), (2, 2), chunk_key_encoding=V2_DOT))
    put(store, "split/zarr.json", array_document((5, 7), (1, 1)))
    put_all(store, {f"split/c/{n // 7}/{n % 7}": bytes([n + 1]) for n in range(0, 35, 2)})
    if zero_length:
        put_all(store, {"zero/zarr.json": line, "zero/c/0": b"", "zero/c/1": b"z"})


def _sharded(store: Store) -> None:
    group = zarr.open_group(store, mode="a")
    array = group.create_array("shard", shape=(12,), chunks=(2,), shards=(8,), dtype="u2")
    array[0:3] = np.array([1, 2, 3], dtype="u2")
    array[8:12] = np.arange(4, dtype="u2")


def _virtual(repo: icechunk.Repository) -> None:
    with changing(repo, "virtual") as store:
        put(store, "virtual/zarr.json", array_document((9,), (1,)))
        store.set_virtual_ref("virtual/c/0", CONTAINER + "a.bin", offset=0, length=1)
        store.set_virtual_ref(
            "virtual/c/1", CONTAINER + "a%20b.bin", offset=7, length=2**33, checksum=MODIFIED
        )
        store.set_virtual_ref(
            "virtual/c/2", CONTAINER + "ü.bin", offset=2**40, length=3, checksum='"etag"'
        )
        store.set_virtual_refs(
            "/dot", [VirtualChunkSpec([0, 1], CONTAINER + "dot.bin", 4, 4, None, None)]
        )


def fill_more(repo: icechunk.Repository) -> dict[str, dict[str, str]]:
    """Add what only version 2 of the format has; return more odd refs."""
    session = repo.writable_session("dev")
    put(session.store, "anonymous/zarr.json", GROUP)
    session.flush("anonymous", metadata={"why": "checkpoint"})
    with changing(repo, "will be amended", branch="dev") as store:
        put(store, "typo/zarr.json", GROUP)
    session = repo.writable_session("dev")
    put(session.store, "right/zarr.json", GROUP)
    session.amend("amended")
    session = repo.rearrange_session("main")
    session.move("/foo", "/bar")
    session.move("/native", "/bar/native")
    session.commit("moved")
    with changing(repo, "many references and a rectilinear grid") as store:
        _many_virtual(store)
        grid = {"kind": "inline", "chunk_shapes": [[[2, 2]], [1, 3]]}
        grid = {"name": "rectilinear", "configuration": grid}
        put(store, "grid/zarr.json", array_document((4, 4), (2, 2), chunk_grid=grid))
        put_all(store, {"grid/c/0/0": b"ab", "grid/c/1/1": b"abcdef"})
        store.set_virtual_ref("virtual/c/3", "vcc://named/b.bin", offset=5, length=6)
    repo.create_branch("back", repo.lookup_branch("main"))
    repo.reset_branch("back", repo.lookup_tag("v1"))
    repo.set_metadata({"title": "golden π", "numbers": [1, -2, 2.5, None, True], "deep": {"a": []}})
    repo.set_feature_flag("delete_tag", False)
    repo.set_feature_flag("move_node", True)
    found = _odd_refs(repo, SLASH_REFS)
    status = icechunk.RepoAvailability.read_only
    repo.set_status(icechunk.RepoStatus(status, limited_availability_reason="golden"))
    return found


def _many_virtual(store: Any) -> None:
    put(store, "many/zarr.json", array_document((10, 12), (1, 1)))
    locations = [f"{CONTAINER}d-{n % 7}/{n:05}.bin" for n in range(120)]
    offsets = np.arange(120, dtype="u8") * 3
    lengths = np.ones(120, dtype="u8")
    assert store.set_virtual_refs_arr("/many", (10, 12), locations, offsets, lengths) is None


def change_after_upgrade(repo: icechunk.Repository) -> None:
    """Commit on top of an upgraded repository."""
    with changing(repo, "after the upgrade") as store:
        put_all(store, {"a/c/0/0": b"new!", "after/zarr.json": array_document((2,), (1,))})
        put(store, "after/c/1", json.dumps({"native": "x" * 200}).encode())
    repo.create_tag("after", repo.lookup_branch("main"))
