"""Small repositories, made by the official library, that hold all a mount must show.

Each builder makes one repository at a Place and returns what it made. ``BUILDERS`` names
them with the versions of the format that they exist in; ``build`` runs one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import icechunk
import numpy as np
from icechunk import VirtualChunkSpec
from zarr.storage import LocalStore

from tests.compat import hierarchy, histories
from tests.compat.documents import (
    DOT,
    GROUP,
    V2_DOT,
    V2_SLASH,
    array_document,
    get_all,
    put,
    put_all,
)
from tests.compat.place import Made, Place, access, changing, container, create, source


@dataclass(frozen=True)
class Builder:
    """How to make one repository, and for which versions of the format."""

    make: Callable[[Place, int], Made]
    specs: tuple[int, ...] = (1, 2)


def build(name: str, spec: int, place: Place) -> Made:
    """Make the repository *name* in version *spec* of the format at *place*."""
    return BUILDERS[name].make(place, spec)


def arrays(place: Place, spec: int) -> Made:
    """Every data type, codec, shape, shard layout and (version 2) rectilinear grids."""
    repo = create(place, spec)
    with changing(repo, "arrays") as store:
        hierarchy.write_arrays(store, rectilinear=spec > 1)
    return Made(place, spec).with_refs()


def xarray(place: Place, spec: int) -> Made:
    """A dataset that grew by appending, and a tree of datasets."""
    repo = create(place, spec)
    with changing(repo, "write") as store:
        put(store, "zarr.json", GROUP)
        hierarchy.write_xarray(store)
    repo.create_tag("first", repo.lookup_branch("main"))
    with changing(repo, "append") as store:
        hierarchy.append_times(store)
    return Made(place, spec).with_refs()


def consolidated(place: Place, spec: int) -> Made:
    """Datasets whose zarr.json holds consolidated metadata, copied in as they were."""
    repo = create(place, spec)
    with TemporaryDirectory() as directory:
        plain = LocalStore(directory)
        hierarchy.write_xarray(Path(directory), consolidated=True)
        with changing(repo, "copy") as store:
            entries = get_all(plain)
            for key in sorted(entries, key=lambda key: not key.endswith("zarr.json")):
                put(store, key, entries[key])
    return Made(place, spec).with_refs()


def kinds(place: Place, spec: int) -> Made:
    """Inline, native and virtual chunks in one array, at and around the inline threshold."""
    repo, made = _with_container(place, spec, "kinds")
    location = source(place, "kinds.bin", bytes(range(256)) * 8)
    with changing(repo, "kinds") as store:
        put(store, "a/zarr.json", array_document((6000, 2), (600, 1)))
        for row, size in enumerate((1, 511, 512, 513, 600)):
            put(store, f"a/c/{row}/1", bytes([row + 1]) * size)
        store.set_virtual_refs("/a", [VirtualChunkSpec([9, 0], location, 100, 600)])
        store.set_virtual_refs("/a", [VirtualChunkSpec([9, 1], "vcc://kinds/kinds.bin", 0, 600)])
    return made.with_refs()


def virtual(place: Place, spec: int) -> Made:
    """References that resolve in odd ways, and those that must fail one by one."""
    repo, made = _with_container(place, spec, "virt")
    location = source(place, "sub/d.bin", bytes(range(256)) * 8)
    source(place, "sp ace ü.bin", b"spaces and more")
    parent = place.data.name
    outside = place.data.with_name(f"{parent}-outside.bin")
    outside.write_bytes(bytes(range(256)))
    (place.data / "link.bin").symlink_to(outside)  # links are followed, wherever they lead
    good = [
        (location, 0, 3),
        (location, 2040, 8),
        (location.replace("file:///", "file://localhost/"), 4, 4),
        (location.replace("d.bin", "%64.bin"), 5, 3),
        (f"{place.prefix}sub/../../{parent}/sub/d.bin", 6, 3),
        (f"{place.prefix}sp ace ü.bin", 0, 6),
        (f"{place.prefix}sp%20ace%20%C3%BC.bin", 7, 3),
        ("vcc://virt/sub/d.bin", 7, 3),
        ("vcc://virt/sub/%64.bin", 8, 3),
        ("vcc://virt/sub/x/../d.bin", 9, 3),
        (f"vcc://virt/../{parent}/sub/d.bin", 10, 3),
        (f"vcc://virt/%2e%2e/{parent}/sub/./d.bin", 11, 3),
        (place.prefix + "link.bin", 12, 3),
        ("vcc://virt/link.bin", 13, 3),
    ]
    failing = [
        (location, 2046, 8),
        (location, 9999, 1),
        (f"{place.prefix}missing.bin", 0, 3),
        (f"{place.prefix}sub", 0, 3),
        ("vcc://virt/missing.bin", 0, 3),
        (f"vcc://virt/../{parent}-outside.bin", 0, 3),
        (f"vcc://virt/%2e%2e/{parent}-outside.bin", 0, 3),
    ]
    with changing(repo, "virtual") as store:
        put_all(
            store, dict.fromkeys(["good/zarr.json", "bad/zarr.json"], array_document((64,), (1,)))
        )
        for array, references in {"good": good, "bad": failing}.items():
            for index, (url, offset, length) in enumerate(references):
                store.set_virtual_ref(f"{array}/c/{index}", url, offset=offset, length=length)
        _checksummed(store, location)
        for index, url in enumerate(("file:///elsewhere/d.bin", "vcc://nowhere/d.bin", "s3://b/k")):
            store.set_virtual_ref(
                f"bad/c/{40 + index}", url, offset=0, length=1, validate_container=False
            )
    return made.with_refs()


def _checksummed(store: icechunk.IcechunkStore, location: str) -> None:
    def refer(key: str, checksum: datetime | str) -> None:
        store.set_virtual_ref(key, location, offset=1, length=2, checksum=checksum)

    refer("good/c/30", datetime.fromtimestamp(1_700_000_000, UTC))
    refer("good/c/31", datetime.fromtimestamp(1_700_000_001, UTC))
    refer("bad/c/30", datetime.fromtimestamp(1_699_999_999, UTC))
    refer("bad/c/31", "no such etag")


def many_virtual(place: Place, spec: int) -> Made:
    """So many virtual chunks that version 2 compresses their locations with a dictionary."""
    repo, made = _with_container(place, spec, "many")
    for number in range(3):
        source(place, f"long-directory-name/{number:04}.bin", bytes([number + 1]) * 64)
    with changing(repo, "many") as store:
        put(store, "grid/zarr.json", array_document((30, 40), (1, 1)))
        names = [f"{place.prefix}long-directory-name/{n % 3:04}.bin" for n in range(1200)]
        offsets = np.arange(1200, dtype="u8") % 64
        failed = store.set_virtual_refs_arr(
            "/grid", (30, 40), names, offsets, np.ones(1200, dtype="u8")
        )
        assert failed is None
    return made.with_refs()


def split_manifests(place: Place, spec: int) -> Made:
    """Arrays whose references lie in many manifests, rewritten once under another rule."""
    repo = create(place, spec, _splitting("^/split$", {0: 3, 1: 4}))
    repo.save_config()
    with changing(repo, "split") as store:
        put(store, "split/zarr.json", array_document((8, 10), (1, 1)))
        put(store, "other/zarr.json", array_document((8,), (1,)))
        for row in range(8):
            put(store, f"other/c/{row}", bytes([row + 100]))
            for column in range(0, 10, 1 + row % 2):
                put(store, f"split/c/{row}/{column}", bytes([row * 10 + column + 1]))
    repo.create_tag("split", repo.lookup_branch("main"))
    with changing(repo, "one of them") as store:
        put(store, "split/c/4/5", b"\xff")
    again = icechunk.Repository.open(place.storage, config=_splitting(".*", {0: 2}))
    again.rewrite_manifests("rewrite", branch="main")
    return Made(place, spec).with_refs()


def _splitting(path: str, sizes: dict[int, int]) -> icechunk.RepositoryConfig:
    axis = icechunk.ManifestSplitDimCondition.Axis
    rule = icechunk.ManifestSplitCondition.path_matches(path)
    config = icechunk.RepositoryConfig.default()
    config.manifest = icechunk.ManifestConfig(
        splitting=icechunk.ManifestSplittingConfig.from_dict(
            {rule: {axis(number): size for number, size in sizes.items()}}
        )
    )
    return config


def encodings(place: Place, spec: int) -> Made:
    """Chunk key encodings that the official store ignores: it lists ``a/c/0/1`` for all."""
    repo = create(place, spec)
    grid: dict[str, Any] = {
        "default": {"name": "default"},
        "slash": {"name": "default", "configuration": {"separator": "/"}},
        "dot": DOT,
        "v2": V2_DOT,
        "v2_slash": V2_SLASH,
    }
    with changing(repo, "encodings") as store:
        for name, encoding in grid.items():
            for array, shape in {name: (3, 4), f"{name}_line": (3,), f"{name}_scalar": ()}.items():
                document = array_document(shape, [2] * len(shape), chunk_key_encoding=encoding)
                put(store, f"{array}/zarr.json", document)
            put(store, f"{name}/c/0/1", b"\x01\x02\x03\x04")
            put(store, f"{name}/c/1/0", b"\x05\x06\x07\x08")
            put(store, f"{name}_line/c/1", b"\x09\x0a")
            put(store, f"{name}_scalar/c", b"\x0b")
            put(store, f"{name}/child/zarr.json", GROUP)
    return Made(place, spec).with_refs()


def names(place: Place, spec: int) -> Made:
    """Nodes whose names need escaping, sort in between, or look like something else."""
    repo = create(place, spec)
    line = array_document((2,), (1,))
    odd = ["new\nline", "n\0ul", "back\\slash", "%", "100%", "p%2Fq", "p%252Fq", "%2E", "%00", "ü"]
    odd += [
        "\U0001f9ca",
        "e\u0301",
        "\u00e9",
        " ",
        " lead",
        "trail ",
        "-",
        "~",
        "*?",
        "#1",
        "l" * 300,
    ]
    odd += [
        "ü" * 130,
        "l" * 255,
        "l" * 256,
        "l" * 299 + "%",
        "c",
        "zarr.json",
        ".zfuse",
        "...",
        "A",
        "a",
    ]
    with changing(repo, "names") as store:
        for name in odd:
            put(store, f"odd/{name}/zarr.json", line)
            put(store, f"odd/{name}/c/1", name.encode()[-1:])
            put(store, f"groups/{name}/x/zarr.json", GROUP)
        for name in ("foo", "foo-bar", "foo.bar", "foo/x", "foo0", "foo/x-1", "foo/x/y"):
            put(store, f"sort/{name}/zarr.json", GROUP)
        for name in (".", "inner/.", "double//deep"):
            put(store, f"dots/{name}/zarr.json", GROUP)
        put_all(store, {f"implicit/{n}/deep/er/zarr.json": line for n in ("one", "two")})
    return Made(place, spec).with_refs()


def nested(place: Place, spec: int) -> Made:
    """Arrays with nodes below them, also under the names that their chunks have."""
    repo = create(place, spec)
    square = array_document((4, 4), (2, 2))
    entries = {
        "zarr.json": GROUP,
        "a/zarr.json": square,
        "a/c/0/0": b"aaaa",
        "a/c/1/1": b"AAAA",
        "a/child/zarr.json": GROUP,
        "a/c/zarr.json": array_document((2,), (1,)),
        "a/c/c/0": b"i",
        "a/c/0/zarr.json": GROUP,
        "a/c/0/deep/zarr.json": GROUP,
        "a/c/1/1/zarr.json": GROUP,
        "a/c/1/0/zarr.json": GROUP,
        "only/child/zarr.json": square,
        "scalar/zarr.json": array_document((), ()),
        "scalar/c": b"s",
        "scalar/c/zarr.json": GROUP,
        "dotted/zarr.json": array_document((4, 4), (2, 2), chunk_key_encoding=DOT),
        "dotted/c/0/1": b"dddd",
        "dotted/c.0.1/zarr.json": GROUP,
        "dotted/c.1.1/zarr.json": GROUP,
    }
    with changing(repo, "nested") as store:
        put_all(store, entries)
    return Made(place, spec).with_refs()


def root_array(place: Place, spec: int) -> Made:
    """An array at the root of the hierarchy."""
    repo = create(place, spec)
    with changing(repo, "root") as store:
        put_all(
            store,
            {
                "zarr.json": array_document((3,), (1,)),
                "c/0": b"a",
                "c/2": b"c",
                "n/zarr.json": GROUP,
            },
        )
    return Made(place, spec).with_refs()


def wrong_rank(place: Place, spec: int) -> Made:
    """Chunks under keys of another rank than their array's, which the library stores and lists."""
    repo = create(place, spec)
    entries = {
        "a/zarr.json": array_document((4, 4), (2, 2)),
        "a/c/0/0": b"good",
        "a/c/1": b"one",
        "a/c/0": b"hidden by a/c/0/0",
        "a/c/0/1/0": b"three",
        "a/c/0/0/7": b"hidden by a/c/0/0",
        "only/zarr.json": array_document((4, 4), (2, 2)),
        "only/c/1": b"w" * 600,
        "scalar/zarr.json": array_document((), ()),
        "scalar/c/0": b"s",
        "dotted/zarr.json": array_document((4, 4), (2, 2), chunk_key_encoding=DOT),
        "dotted/c/1": b"one",
        "dotted/c/1/1": b"two",
    }
    with changing(repo, "wrong ranks") as store:
        put_all(store, entries)
    return Made(place, spec).with_refs()


def odd_grids(place: Place, spec: int) -> Made:
    """Grids at the edges of what the official library accepts."""
    repo = create(place, spec)
    entries = {
        "short_names/zarr.json": array_document((4, 4), (2, 2), dimension_names=["x"]),
        "short_names/c/0/1": b"abcd",
        "null_names/zarr.json": array_document((4, 4), (2, 2), dimension_names=[None, ""]),
        "null_names/c/1/1": b"abcd",
        "long_chunk_shape/zarr.json": array_document((4,), (2, 2)),
        "long_chunk_shape/c/1": b"ab",
        "far/zarr.json": array_document((2**32 - 1,), (1,)),
        "far/c/4294967294": b"f",
        "zero_length/zarr.json": array_document((0, 4), (2, 2)),
        "zero_length/c/0/0": b"dropped by commit",
        "unknown_encoding/zarr.json": array_document(
            (4,), (2,), chunk_key_encoding={"name": "new"}
        ),
        "unknown_type/zarr.json": array_document(
            (4,), (2,), data_type="int2", codecs=[{"name": "q"}]
        ),
        "unknown_type/c/1": b"??",
    }
    with changing(repo, "grids") as store:
        put_all(store, entries)
        if spec > 1:  # version 1 commits it too, and then nobody can list the repository
            put(store, "zero_chunks/zarr.json", array_document((4,), (0,)))
    return Made(place, spec).with_refs()


def empty(place: Place, spec: int) -> Made:
    """A repository without any node, not even a root group."""
    create(place, spec)
    return Made(place, spec).with_refs()


def _with_container(place: Place, spec: int, name: str) -> tuple[icechunk.Repository, Made]:
    config = icechunk.RepositoryConfig.default()
    config.set_virtual_chunk_container(container(place, name))
    repo = create(place, spec, config, authorize_virtual_chunk_access=access(place.prefix))
    repo.save_config()
    return repo, Made(place, spec, allow=(place.prefix,))


BUILDERS: dict[str, Builder] = {
    "arrays": Builder(arrays),
    "xarray": Builder(xarray),
    "consolidated": Builder(consolidated),
    "kinds": Builder(kinds),
    "virtual": Builder(virtual),
    "many_virtual": Builder(many_virtual),
    "split_manifests": Builder(split_manifests),
    "encodings": Builder(encodings),
    "names": Builder(names),
    "nested": Builder(nested),
    "root_array": Builder(root_array),
    "wrong_rank": Builder(wrong_rank),
    "odd_grids": Builder(odd_grids),
    "empty": Builder(empty),
    "refs": Builder(histories.refs),
    "refs_v1": Builder(histories.refs_v1, specs=(1,)),
    "resized": Builder(histories.resized),
    "deleted": Builder(histories.deleted),
    "moved": Builder(histories.moved, specs=(2,)),
    "unreferenced": Builder(histories.unreferenced, specs=(2,)),
    "expired": Builder(histories.expired),
    "upgraded": Builder(histories.upgraded, specs=(2,)),
    "ops_pages": Builder(histories.ops_pages, specs=(2,)),
    "settings": Builder(histories.settings, specs=(2,)),
}
CASES = [(name, spec) for name, builder in BUILDERS.items() for spec in builder.specs]
