"""What can not be ingested: one line says why, and nothing is written."""

import contextlib
import json
import os
import shutil

import h5py
import netCDF4
import numcodecs
import numpy as np
import pytest
import zarr

from tests.ingest.zarr_arrays import GRID
from zfuse.errors import (
    AccessDeniedError,
    AlreadyExistsError,
    BusyError,
    InvalidInputError,
    NotFoundError,
)
from zfuse.ingest.placement import node_path

NOBODY = 65534

pytestmark = [
    pytest.mark.compat,
    pytest.mark.filterwarnings("ignore::zarr.errors.ZarrUserWarning"),
    pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning"),
]


@pytest.fixture
async def refused(archive):
    """A function that ingests, and checks that this fails, in one line, and changes nothing."""
    before = snapshot_of(archive)

    async def check(error, words, *sources, **choices):
        archive.settle()
        with pytest.raises(error, match=words) as caught:
            await archive.ingest(*sources, **choices)
        assert "\n" not in str(caught.value)
        assert snapshot_of(archive) == before

    return check


def snapshot_of(archive) -> list[tuple[str, int]]:
    """Return all objects of the repository with their sizes."""
    return sorted(
        (os.path.join(place, name), os.path.getsize(os.path.join(place, name)))
        for place, _, names in os.walk(archive.url)
        for name in names
    )


async def test_a_source_that_is_not_there(archive, refused):
    await refused(NotFoundError, "nothing.zarr does not exist", archive.data / "nothing.zarr")
    (archive.data / "empty").mkdir()
    await refused(NotFoundError, "is empty", archive.data / "empty")


async def test_a_directory_without_zarr(archive, refused):
    (archive.data / "x").mkdir()
    (archive.data / "x" / "readme").write_text("x")
    await refused(InvalidInputError, "no Zarr store", archive.data / "x")
    await refused(InvalidInputError, "no Zarr store", archive.data / "x", kind="zarr")


@pytest.mark.parametrize("content", [b"", b"hello", b"{}", b'{"a": 1}', b"\x89HDF\r\n\x1a\nrest"])
async def test_a_file_of_no_known_format(archive, refused, content):
    (archive.data / "file").write_bytes(content)
    await refused(
        InvalidInputError,
        "half-written|no format|can not be referenced as hdf5",
        archive.data / "file",
    )


@pytest.mark.parametrize("name", ["zarr.json", ".zgroup", "a/.zarray", "a/.zattrs"])
@pytest.mark.parametrize("content", [b"", b'{"zarr_format": 2, "no', b"[]", b"\xff\xfe"])
async def test_metadata_that_are_half_written(archive, refused, name, content):
    source = archive.data / "old.zarr"
    group = zarr.open_group(source, mode="w", zarr_format=3 if name == "zarr.json" else 2)
    group.create_array("a", data=GRID)
    (source / name).write_bytes(content)
    await refused(InvalidInputError, f"old.zarr/{name} is not", source)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("member", [{"attributes": [1]}, {"chunks": 5}, {"dimension_separator": 1}])
async def test_metadata_of_other_types(archive, refused, zarr_format, member):
    source = archive.data / "old.zarr"
    zarr.open_group(source, mode="w", zarr_format=zarr_format).create_array("a", data=GRID)
    place = source / "a" / ("zarr.json" if zarr_format == 3 else ".zarray")
    if zarr_format == 3:
        member = {"attributes": next(iter(member.values()))}
    elif "attributes" in member:
        member = {"compressor": {"id": "gzip", "level": None}}
    place.write_text(json.dumps(json.loads(place.read_text()) | member))
    await refused(InvalidInputError, "old.zarr/a", source)


async def test_a_chunk_that_is_half_written(archive, refused):
    zarr.create_array(archive.data / "a", data=GRID, chunks=(4, 4))
    (archive.data / "a" / "c" / "1" / "2").write_bytes(b"")
    await refused(InvalidInputError, "chunk 1/2 .* no bytes", archive.data / "a")


@pytest.mark.parametrize("kept", [0.3, 0.9])
async def test_an_hdf5_file_that_is_cut_off(archive, refused, kept):
    path = archive.data / "file.h5"
    with h5py.File(path, "w") as file:
        file["a"] = np.arange(10000)
    os.truncate(path, int(path.stat().st_size * kept))
    await refused(InvalidInputError, "file.h5", path)


@pytest.mark.parametrize("kept", [0.01, 0.9])
async def test_a_netcdf3_file_that_is_cut_off(archive, refused, kept):
    path = archive.data / "file.nc"
    with netCDF4.Dataset(path, "w", format="NETCDF3_CLASSIC") as file:
        file.createDimension("x", 10000)
        file.createVariable("a", "f8", ("x",))[:] = np.arange(10000)
    os.truncate(path, int(path.stat().st_size * kept))
    await refused(InvalidInputError, "half-written|is truncated", path)


async def test_a_name_that_is_not_utf8(archive, refused):
    zarr.create_array(archive.data / "a", data=GRID)
    (archive.data / "a" / os.fsdecode(b"\xff")).write_bytes(b"x")
    await refused(InvalidInputError, "is not UTF-8", archive.data / "a")


async def test_structured_arrays(archive, refused):
    group = zarr.open_group(archive.data / "old.zarr", mode="w", zarr_format=2)
    group.create_array("ok", data=GRID)
    group.create_array("point", data=np.zeros(3, [("x", "f8"), ("y", "i4")]))
    await refused(InvalidInputError, "old.zarr/point has the structured", archive.data / "old.zarr")
    with h5py.File(archive.data / "file.h5", "w") as file:
        file["point"] = np.zeros(3, [("x", "f8"), ("y", "i4")])
    await refused(InvalidInputError, "file.h5/point has a structured", archive.data / "file.h5")


async def test_what_is_skipped_may_be_anything(archive):
    group = zarr.open_group(archive.data / "old.zarr", mode="w", zarr_format=2)
    for name in ("ok", "inner/ok"):
        group.create_array(name, data=GRID)
    for name in ("point", "inner/point"):
        group.create_array(name, data=np.zeros(3, [("x", "f8"), ("y", "i4")]))
    with h5py.File(archive.data / "file.h5", "w") as file:
        for name in ("ok", "inner/ok"):
            file[name] = GRID
        for name in ("point", "inner/point"):
            file[name] = np.zeros(3, [("x", "f8"), ("y", "i4")])
        file["lost"] = h5py.SoftLink("/nowhere")
    archive.settle()
    await archive.ingest(
        *((archive.data / name, f"/{name}") for name in ("old.zarr", "file.h5")),
        skip=["point", "lost"],
    )
    found = zarr.open_group(archive.store(), mode="r")
    expected = {"ok", "inner/ok"}
    for name in ("old.zarr", "file.h5"):
        members = dict(found[name].members(max_depth=None))
        assert {key for key, each in members.items() if isinstance(each, zarr.Array)} == expected


async def test_a_codec_that_v3_does_not_have(archive, refused):
    source = archive.data / "old.zarr"
    group = zarr.open_group(source, mode="w", zarr_format=2)
    group.create_array("a", data=GRID)
    zarray = json.loads((source / "a" / ".zarray").read_bytes())
    for member, codec in (("compressor", {"id": "strange"}), ("filters", [{"id": "strange"}])):
        changed = {**zarray, member: codec}
        (source / "a" / ".zarray").write_text(json.dumps(changed))
        await refused(InvalidInputError, "old.zarr/a.*strange", source)
    json2 = [numcodecs.JSON().get_config()]
    changed = {**zarray, "dtype": "|O", "filters": json2, "fill_value": None}
    (source / "a" / ".zarray").write_text(json.dumps(changed))
    await refused(InvalidInputError, "old.zarr/a", source)


@pytest.mark.parametrize("text", ["gs://bucket/x.zarr", "az://bucket/x", "ftp://host/x", "s3://"])
async def test_a_scheme_without_containers(archive, refused, text):
    await refused(InvalidInputError, "no virtual chunk container|no bucket", text)


async def test_http_lists_no_files(refused):
    await refused(InvalidInputError, "list no files", "http://127.0.0.1:9/x", kind="zarr")


@pytest.mark.parametrize("url", ["https://user:secret@host/x", "https://host/x?token=secret"])
async def test_secrets_in_urls(archive, url):
    with pytest.raises(InvalidInputError, match="neither credentials nor a query") as caught:
        await archive.ingest(url)
    assert "secret" not in str(caught.value)


async def test_two_sources_for_one_node(archive, refused):
    for name in ("a", "b"):
        zarr.create_array(archive.data / name, data=GRID)
    places = [archive.data / "a", archive.data / "b"]
    await refused(InvalidInputError, "would both be /x", *((place, "/x") for place in places))
    pairs = [(places[0], "/x"), (places[1], "/x/y")]
    await refused(InvalidInputError, "inside of /x", *pairs)


async def test_a_group_that_is_not_there(archive, refused):
    zarr.open_group(archive.data / "old.zarr", mode="w").create_array("a", data=GRID)
    with h5py.File(archive.data / "file.h5", "w") as file:
        file["inner/a"] = GRID
    for name in ("old.zarr", "file.h5"):
        await refused(NotFoundError, "has no group 'other'", archive.data / name, group="other")
    for group in ("../other.zarr", "a/./b", "a//b"):
        await refused(InvalidInputError, "no group", archive.data / "old.zarr", group=group)


@pytest.mark.parametrize("text", ["a//b", "../x", "a/.", "zarr.json", "a/zarr.json/"])
def test_what_can_be_no_node(text):
    with pytest.raises(InvalidInputError, match="can be no node"):
        node_path(text)


async def test_a_node_that_exists(archive):
    zarr.create_array(archive.data / "a", data=GRID)
    zarr.create_array(archive.data / "b", data=GRID + 1)
    archive.settle()
    await archive.ingest((archive.data / "a", "/x/a"))
    before = snapshot_of(archive)
    for node, words in (
        ("/x/a", "/x/a exists.*--overwrite.*--append-dim"),
        ("/x", "/x exists"),
        ("/", "/ exists"),
        ("/x/a/below", "inside of the array /x/a"),
    ):
        with pytest.raises((AlreadyExistsError, InvalidInputError), match=words):
            await archive.ingest((archive.data / "b", node))
    assert snapshot_of(archive) == before
    await archive.ingest((archive.data / "b", "/x/a"), overwrite=True)
    store = archive.store()
    assert np.array_equal(zarr.open_array(store, path="x/a", mode="r")[...], GRID + 1)
    await archive.ingest((archive.data / "a", "/x"), overwrite=True)
    assert np.array_equal(zarr.open_array(archive.store(), path="x", mode="r")[...], GRID)


async def test_a_source_that_changes_while_it_is_parsed(archive):
    zarr.create_array(archive.data / "a", data=GRID, chunks=(4, 4))
    archive.settle()
    before = snapshot_of(archive)
    changes = {
        "other bytes": lambda: (archive.data / "a" / "c" / "0" / "0").write_bytes(b"x"),
        "one more": lambda: shutil.copy(
            archive.data / "a" / "c" / "0" / "0", archive.data / "a" / "c" / "0" / "9"
        ),
        "one less": (archive.data / "a" / "c" / "1" / "1").unlink,
    }
    for change in changes.values():

        def tell(what, done, of, change=change):
            if (what, done) == ("parsing", 1):
                change()

        with pytest.raises(BusyError, match="changed while it was ingested"):
            await archive.ingest(archive.data / "a", tell=tell)
    assert snapshot_of(archive) == before


async def test_a_young_source_is_waited_for(archive):
    """Whatever is written to it after the commit shows: it has another second."""
    zarr.create_array(archive.data / "a", data=GRID, chunks=(6, 10), compressors=None)
    await archive.ingest(archive.data / "a")
    chunk = archive.data / "a" / "c" / "0" / "0"
    assert np.array_equal(zarr.open_array(archive.store(), mode="r")[...], GRID)
    chunk.write_bytes(b"x" * chunk.stat().st_size)
    with pytest.raises(Exception, match=r"modified|changed"):
        zarr.open_array(archive.store(), mode="r")[...]


@contextlib.contextmanager
def another_user(directory):
    """Own all below *directory* as somebody who is not root, who may read everything."""
    if os.geteuid() != 0:
        yield
        return
    for above in directory.parents:
        above.chmod(above.stat().st_mode | 0o111)
    for place in (directory, *directory.rglob("*")):
        os.chown(place, NOBODY, NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("name", ["a/zarr.json", "a/c", "a"])
async def test_a_source_that_may_not_be_read(archive, refused, name):
    zarr.create_array(archive.data / "a", data=GRID, chunks=(2, 2))
    archive.settle()
    (archive.data / name).chmod(0)
    with another_user(archive.data.parent):
        await refused(AccessDeniedError, "may not be read", archive.data / "a")
    (archive.data / name).chmod(0o755)


async def test_what_fails_is_left_out_of_what_goes_on(archive):
    zarr.create_array(archive.data / "good", data=GRID)
    zarr.create_array(archive.data / "broken", data=GRID)
    (archive.data / "broken" / "zarr.json").write_text("{")
    archive.settle()
    names = ("good", "broken", "missing")
    report = await archive.ingest(
        *((archive.data / name, f"/{name}") for name in names), keep_going=True
    )
    assert [each.node for each in report.ingested] == ["/good"]
    assert [place.rpartition("/")[2] for place, _ in report.failed] == ["broken", "missing"]
    assert list(zarr.open_group(archive.store(), mode="r").array_keys()) == ["good"]


async def test_nothing_is_committed_if_all_fail(archive):
    before = snapshot_of(archive)
    report = await archive.ingest(archive.data / "missing", keep_going=True)
    assert report.snapshot is None
    assert len(report.failed) == 1
    assert snapshot_of(archive) == before


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        (["file", -1, 8], "8 bytes at -1, which no file has"),
        (["file", 0, -8], "-8 bytes at 0, which no file has"),
        (["file", 2**64 - 4, 8], "which no file has"),
        (["file", 2**70, 8], "which no file has"),
        (["file", 0, 9], "behind the end of their file"),
        (["{{x}}", 0, 8], "templates that are no texts"),
        (["", 0, 8], "is a directory"),
    ],
)
async def test_kerchunk_references_to_nowhere(archive, refused, reference, words):
    (archive.data / "file").write_bytes(bytes(8))
    zarray = {
        "zarr_format": 2, "shape": [1], "chunks": [1], "dtype": "<f8", "order": "C",
        "compressor": None, "filters": None, "fill_value": 0.0,
    }  # fmt: skip
    references = {".zgroup": '{"zarr_format": 2}', "a/.zarray": zarray, "a/0": reference}
    whole = {"version": 1, "refs": references}
    whole |= {"templates": {"x": 5}} if "{{" in str(reference[0]) else {}
    (archive.data / "references.json").write_text(json.dumps(whole))
    await refused(InvalidInputError, words, archive.data / "references.json")
