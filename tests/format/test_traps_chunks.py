"""The traps of the format that concern chunk references, each under its number.

The numbers are those of the project's list of what the official library does beyond its
specification. Traps that concern stores, sessions or mounts are tested where those are.
"""

import icechunk
import pytest

from tests.compat.documents import array_document, put
from tests.compat.golden import Golden
from tests.compat.place import changing, container, create, local_place
from tests.compat.repositories import build
from tests.format import building
from tests.format.building import (
    ID,
    manifest,
    u32s,
    u64,
)
from tests.format.reading import array_of, decoded_snapshot, manifests_of
from zfuse.errors import CorruptionError
from zfuse.format.chunk_ref import InlineRef, NativeRef, VirtualRef
from zfuse.format.ids import ChunkId, NodeId
from zfuse.format.manifest import Manifest
from zfuse.format.snapshot import ArrayNode


def test_14_references_of_another_rank_than_the_array(place):
    repo = create(place, 2)
    with changing(repo, "ranks") as store:
        put(store, "a/zarr.json", array_document((4, 4), (2, 2)))
        for key in ("a/c/1/1", "a/c/1", "a/c/0/0/0", "a/c", "a/c/0"):
            put(store, key, key.encode())
    (node,) = (
        n for n in decoded_snapshot(place, repo.lookup_branch("main")).nodes if n.path == "/a"
    )
    (found,) = manifests_of(place, node)
    assert found.ranks(node.id) == (0, 1, 2, 3)
    told = {
        (rank, tuple(index)): refs.ref(refs.find(index)).data
        for rank in found.ranks(node.id)
        for refs in [found.array(node.id, rank)]
        for index in refs.coords(0, len(refs)).tolist()
    }
    assert told == {
        (0, ()): b"a/c",
        (1, (0,)): b"a/c/0",
        (1, (1,)): b"a/c/1",
        (2, (1, 1)): b"a/c/1/1",
        (3, (0, 0, 0)): b"a/c/0/0/0",
    }
    assert found.array(node.id, 4) is None


def test_22_chunks_of_no_bytes():
    refs = [{0: u32s(0), 1: b""}, {0: u32s(1), 4: building.struct(ID)}]
    found = array_of(manifest(refs), 1)
    assert found.ref(0) == InlineRef(b"")
    assert found.ref(1) == NativeRef(ChunkId(ID), 0, 0)
    assert found.sizes(0, 2).tolist() == [0, 0]


def test_22_1_x_wrote_chunks_of_no_bytes():
    golden = Golden("icechunk-1.1.21-spec1")
    tip = golden.snapshot(golden.report["branches"]["main"])
    arrays = [node for node in tip.nodes if isinstance(node, ArrayNode)]
    refs = [ref for node in arrays for _, ref in golden.references(node)]
    assert InlineRef(b"") in refs


def test_24_one_manifest_may_serve_several_arrays():
    arrays = [{0: building.struct(n), 1: [{0: u32s(0), 1: n}]} for n in (b"a" * 8, b"b" * 8)]
    decoded = Manifest.decode(manifest([], s1=arrays))
    assert decoded.node_ids() == (NodeId(b"a" * 8), NodeId(b"b" * 8))


def test_24_extents_are_those_of_the_references(tmp_path):
    made = build("split_manifests", 2, local_place(tmp_path))
    nodes = decoded_snapshot(made.place, made.branches["main"]).nodes
    arrays = [node for node in nodes if isinstance(node, ArrayNode) and node.manifests]
    assert max(len(node.manifests) for node in arrays) > 2
    for node in arrays:
        for ref, decoded in zip(node.manifests, manifests_of(made.place, node), strict=True):
            refs = decoded.array(node.id, len(node.shape))
            coords = refs.coords(0, len(refs))
            low, high = coords.min(axis=0).tolist(), coords.max(axis=0).tolist()
            assert ref.extents == tuple((a, b + 1) for a, b in zip(low, high, strict=True))


def test_24_extents_of_a_scalar_are_empty(place):
    repo = create(place, 2)
    with changing(repo, "scalar") as store:
        put(store, "s/zarr.json", array_document((), ()))
        put(store, "s/c", b"x")
    (node,) = (
        n for n in decoded_snapshot(place, repo.lookup_branch("main")).nodes if n.path == "/s"
    )
    assert [ref.extents for ref in node.manifests] == [()]
    (decoded,) = manifests_of(place, node)
    refs = decoded.array(node.id, 0)
    assert refs.coords(0, 1).shape == (1, 0)
    assert refs.ref(refs.find(())) == InlineRef(b"x")


def test_25_locations_packed_with_a_dictionary(place):
    config = icechunk.RepositoryConfig.default()
    config.set_virtual_chunk_container(container(place))
    repo = create(place, 2, config)
    locations = [f"{place.prefix}year={n % 7}/file-{n:05}.nc" for n in range(1200)]
    with changing(repo, "virtual") as store:
        put(store, "v/zarr.json", array_document((1200,), (1,)))
        specs = [icechunk.VirtualChunkSpec([n], url, n, 1) for n, url in enumerate(locations)]
        store.set_virtual_refs("/v", specs)
    (node,) = (
        n for n in decoded_snapshot(place, repo.lookup_branch("main")).nodes if n.path == "/v"
    )
    told = repo.inspect_manifest(str(node.manifests[0].manifest_id))
    assert told["compression"]["num_compressed_refs"] == 1200
    (decoded,) = manifests_of(place, node)
    refs = decoded.array(node.id, 1)
    assert [refs.ref(n) for n in range(1200)] == [
        VirtualRef(url, n, 1) for n, url in enumerate(locations)
    ]


def test_25_precedence_of_the_kinds():
    table = {0: u32s(0), 1: b"inline", 2: u64(1), 3: u64(2), 5: "s3://b/k", 4: building.struct(ID)}
    packed = {**table, 8: b"compressed, but not really"}
    assert array_of(manifest([packed]), 1).ref(0) == NativeRef(ChunkId(ID), 1, 2)
    del packed[4]
    with pytest.raises(CorruptionError):  # it would be the compressed location
        array_of(manifest([packed]), 1).ref(0)
    del packed[8]
    assert array_of(manifest([packed]), 1).ref(0) == VirtualRef("s3://b/k", 1, 2)
    del packed[5]
    assert array_of(manifest([packed]), 1).ref(0) == InlineRef(b"inline")
    assert array_of(manifest([packed]), 1).sizes(0, 1).tolist() == [6]


def test_26_time_of_virtual_chunks_is_in_whole_seconds(tmp_path):
    made = build("virtual", 2, local_place(tmp_path))
    nodes = decoded_snapshot(made.place, made.branches["main"]).nodes
    (node,) = (node for node in nodes if node.path == "/good")
    (decoded,) = manifests_of(made.place, node)
    refs = decoded.array(node.id, 1)
    found = [refs.ref(refs.find((n,))) for n in (29, 30, 31) if refs.find((n,)) is not None]
    assert [ref.last_modified for ref in found] == [1_700_000_000, 1_700_000_001]
    assert all(ref.etag is None for ref in found)
