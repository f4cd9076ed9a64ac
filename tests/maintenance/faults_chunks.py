"""Faults of manifests, chunks and virtual sources, to be planted; see ``faults_history``."""

import os
from dataclasses import replace

import numpy as np

from tests.maintenance.planting import MTIME, Planted, swap, with_ref, with_row
from zfuse.format.chunk_ref import InlineRef, NativeRef, VirtualRef
from zfuse.format.ids import ChunkId, ManifestId
from zfuse.format.manifest import Manifest
from zfuse.format.manifest_encoder import encode_manifest
from zfuse.format.ref_columns import RefColumns, RefKind

FAR = 2**63 - 10


def _info(p: Planted, **changes):
    manifest_id = p.node("/a").manifests[0].manifest_id
    p.set_file_info(replace(p.snapshot().manifest_files[manifest_id], **changes))


def manifest_gone(p: Planted):
    key = p.manifest_key()
    p.file(key).unlink()
    return key, "gone"


def manifest_cut_off(p: Planted):
    key = p.manifest_key()
    p.cut(key)
    return key, "damaged"


def manifest_flipped(p: Planted):
    key = p.manifest_key()
    p.patch(key, 39, 0x55)
    return key, "damaged: no zstd frame"


def manifest_of_another_size(p: Planted):
    size = p.file(p.manifest_key()).stat().st_size
    _info(p, size_bytes=size + 1)
    return p.manifest_key(), f"it has {size} bytes, a snapshot says {size + 1}"


def manifest_of_another_count(p: Planted):
    _info(p, num_chunk_refs=17)
    return p.manifest_key(), "it has 3 references, a snapshot says 17"


def manifest_of_another_id(p: Planted):
    def change(data, root):
        at = root._find(0, 12, 0)
        data[at : at + 12] = b"another one "

    key = p.manifest_key()
    data = p.file(key).read_bytes()
    p.patch_payload(key, change)
    _info(p, size_bytes=p.file(key).stat().st_size)
    assert data != p.file(key).read_bytes()
    return key, f"says that its id is {ManifestId(b'another one ')}"


def manifest_of_another_array(p: Planted):
    key = p.manifest_key()
    manifest = Manifest.decode(p.file(key).read_bytes())
    columns = p.columns(manifest, "/a")
    other = p.node("/line").id
    encoded = encode_manifest(manifest.id, {other: [columns]}, spec_version=p.spec)
    p.file(key).write_bytes(encoded.data)
    p.set_file_info(encoded.info)
    return key, "it has no reference of the array"


def references_out_of_order(p: Planted):
    key = p.manifest_key()
    p.patch_payload(key, lambda data, root: swap(data, root.tables(1)[0], 1))
    return key, "references are out of order"


def reference_twice(p: Planted):
    key = p.manifest_key()
    p.patch_payload(key, lambda data, root: swap(data, root.tables(1)[0], 1, double=True))
    return key, "references are out of order, or one comes twice"


def chunk_outside_of_grid(p: Planted):
    p.change_refs("/a", lambda refs: with_ref(refs, (1, 2), InlineRef(b"out")))
    (ref,) = p.node("/a").manifests
    p.change_node("/a", manifests=(replace(ref, extents=((0, 2), (0, 3))),))
    return p.manifest_key(), "outside of the array's grid"


def chunk_outside_of_extents(p: Planted):
    (ref,) = p.node("/a").manifests
    p.change_node("/a", manifests=(replace(ref, extents=((0, 1), (0, 2))),))
    return p.manifest_key(), "outside of its extents"


def extents_too_wide(p: Planted):
    (ref,) = p.node("/v").manifests
    p.change_node("/v", manifests=(replace(ref, extents=((0, 8),)),))
    return p.manifest_key("/v"), "are wider than [0, 4)"


def extents_of_another_rank(p: Planted):
    (ref,) = p.node("/v").manifests
    p.change_node("/v", manifests=(replace(ref, extents=((0, 4), (0, 1))),))
    return p.manifest_key("/v"), "extents have 2 dimensions, not 1"


def chunk_of_another_rank(p: Planted):
    other = RefColumns.of_refs(1, [((1,), InlineRef(b"one"))])
    p.change_refs("/a", lambda refs: [other, refs])
    return p.manifest_key(), "a chunk index has 1 numbers, but the array has 2"


def chunk_in_two_manifests(p: Planted):
    first, second, *others = p.node("/line").manifests
    p.change_refs("/line", lambda refs: with_ref(refs, (3,), InlineRef(b"again")))
    p.change_node("/line", manifests=(replace(first, extents=((0, 4),)), second, *others))
    return p.manifest_key("/line"), f"chunks are in manifests/{second.manifest_id}, too"


def reference_to_nowhere(p: Planted):
    p.change_refs("/a", lambda refs: with_row(refs, 1, kinds=RefKind.DAMAGED))
    return p.manifest_key(), "references say nowhere"


def chunk_without_bytes(p: Planted):
    p.change_refs("/a", lambda refs: with_row(refs, 0, lengths=0))
    return p.manifest_key(), "chunks have no bytes"


def inline_chunk_without_bytes(p: Planted):
    p.change_refs("/a", lambda refs: with_ref(refs, (1, 0), InlineRef(b"")))
    return p.manifest_key(), "chunks have no bytes"


def chunk_beyond_all_bounds(p: Planted):
    p.change_refs("/a", lambda refs: with_row(refs, 0, offsets=np.uint64(FAR)))
    return p.manifest_key(), "beyond all bounds"


def chunk_gone(p: Planted):
    key = p.chunk_key()
    p.file(key).unlink()
    return key, "gone"


def chunk_of_unknown_id(p: Planted):
    unknown = ChunkId(b"unknown here")
    p.change_refs("/a", lambda refs: with_ref(refs, (0, 0), NativeRef(unknown, 0, 700)))
    return f"chunks/{unknown}", "gone"


def chunk_cut_off(p: Planted):
    key = p.chunk_key()
    p.cut(key, 699)
    return key, "it has 699 bytes, a reference goes up to 700"


def chunk_is_longer(p: Planted):
    key = p.chunk_key()
    p.file(key).write_bytes(bytes(701))
    return key, "it has 701 bytes, references go up to 700"


def chunk_at_an_offset(p: Planted):
    key = p.chunk_key()
    p.change_refs("/a", lambda refs: with_row(refs, 0, offsets=1))
    return key, "it has 700 bytes, a reference goes up to 701"


def _location(p: Planted, location):
    p.change_refs("/v", lambda refs: with_ref(refs, (1,), VirtualRef(location, 0, 5)))
    return location


def location_no_url(p: Planted):
    return _location(p, "somewhere"), "is not a URL"


def location_in_no_container(p: Planted):
    return _location(p, "s3://elsewhere/x"), "lies in no virtual chunk container"


def location_in_an_unknown_container(p: Planted):
    return _location(p, "vcc://unknown/x"), "no virtual chunk container named 'unknown'"


def location_climbs_out(p: Planted):
    return _location(p, f"file://{p.data}/../x"), "lies in no virtual chunk container"


CHUNKS = [
    *(manifest_gone, manifest_cut_off, manifest_flipped, manifest_of_another_size),
    *(manifest_of_another_count, manifest_of_another_id, manifest_of_another_array),
    *(references_out_of_order, reference_twice, chunk_outside_of_grid, chunk_outside_of_extents),
    *(extents_too_wide, extents_of_another_rank, chunk_of_another_rank, chunk_in_two_manifests),
    *(reference_to_nowhere, chunk_without_bytes, inline_chunk_without_bytes),
    *(chunk_beyond_all_bounds, chunk_gone, chunk_of_unknown_id, chunk_cut_off, chunk_is_longer),
    *(chunk_at_an_offset, location_no_url, location_in_no_container),
    *(location_in_an_unknown_container, location_climbs_out),
]


# -- found with --virtual -----------------------------------------------------------------------


def source_gone(p: Planted):
    (p.data / "one.bin").unlink()
    return f"file://{p.data}/one.bin", "gone"


def source_changed(p: Planted):
    os.utime(p.data / "two.bin", (MTIME + 1, MTIME + 1))
    return f"file://{p.data}/two.bin", "changed since it was referenced"


def source_too_short(p: Planted):
    (p.data / "one.bin").write_bytes(bytes(650))
    os.utime(p.data / "one.bin", (MTIME, MTIME))
    return f"file://{p.data}/one.bin", "it has 650 bytes, chunks lie behind that"


def source_of_unverifiable_etag(p: Planted):
    location = f"file://{p.data}/one.bin"
    p.change_refs("/v", lambda refs: with_ref(refs, (1,), VirtualRef(location, 0, 5, etag="x")))
    return location, "an etag (x) can not be verified"


SOURCES = [source_gone, source_changed, source_too_short, source_of_unverifiable_etag]
