"""Where virtual chunks may be read, and where not."""

import errno
import os

import icechunk
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.compat.documents import array_document, put
from tests.compat.oracle import Ref, official_keys
from tests.compat.place import access, changing, container, create, local_place, source
from tests.fs.driving import Containers, content_of, driving
from zfuse.byterange import ByteRange
from zfuse.errors import (
    AccessDeniedError,
    ChunkModifiedError,
    ContainerNotAllowedError,
    ContainerNotOfferedError,
    CorruptionError,
    InvalidInputError,
    MissingObjectError,
    PreconditionFailedError,
)
from zfuse.format.chunk_ref import VirtualRef
from zfuse.format.config import StoreConfig, VirtualChunkContainer
from zfuse.repo.virtual import AllowedPrefix, Place, VirtualChunkResolver
from zfuse.storage.base import Unmodified
from zfuse.storage.memory import MemoryStorage
from zfuse.storage.open import StorageOpener

KINDS = {"file": "local_file_system", "http": "http", "https": "http", "s3": "s3"}


def containers(*prefixes, **named):
    """Return containers at *prefixes*, and those of *named* with their names."""
    pairs = [(prefix, None) for prefix in prefixes] + [(p, name) for name, p in named.items()]
    return {
        prefix: VirtualChunkContainer(prefix, StoreConfig(KINDS[prefix.partition(":")[0]]), name)
        for prefix, name in pairs
    }


class Opened:
    """Hands out one memory store, and notes what was opened."""

    def __init__(self):
        self.storage = MemoryStorage()
        self.calls = []

    async def open_container(self, root, store, credentials):
        self.calls.append((root, store.kind, credentials))
        return self.storage


def resolver(declared, *allowed, opener=None):
    prefixes = [AllowedPrefix.parse(prefix) for prefix in allowed]
    return VirtualChunkResolver(declared, prefixes, opener or Opened())


@pytest.mark.parametrize(
    ("text", "prefix", "credentials"),
    [
        ("s3://bucket/path/", "s3://bucket/path/", None),
        ("s3://bucket/path", "s3://bucket/path/", None),
        ("s3://bucket", "s3://bucket/", None),
        ("s3://bucket/=anonymous", "s3://bucket/", "anonymous"),
        ("s3://bucket/p=env", "s3://bucket/p/", "env"),
        ("s3://bucket/=profile:work", "s3://bucket/", "profile:work"),
        ("s3://bucket/day=1/", "s3://bucket/day=1/", None),
        ("s3://bucket/day=1=env", "s3://bucket/day=1/", "env"),
        ("file:///data/", "file:///data/", None),
        ("s3://bucket/=1/x", "s3://bucket/=1/x/", None),
        ("https://example.org/a=b", "https://example.org/a=b/", None),
    ],
)
def test_an_allowed_prefix(text, prefix, credentials):
    assert AllowedPrefix.parse(text) == AllowedPrefix(prefix, credentials)


@pytest.mark.parametrize(
    "text",
    ["", "/data", "bucket=env", "anonymous", "s3://b/=profile:", "s3://b/%ff", "://x", "s3://"],
)
def test_what_is_no_prefix(text):
    with pytest.raises(InvalidInputError):
        AllowedPrefix.parse(text)


@pytest.mark.parametrize(
    ("word", "nearest"),
    [("anonymus", "=anonymous"), ("Env", "=env"), ("profil:x", "=profile:NAME"), ("zz", "=env")],
)
def test_a_misspelt_word_is_not_part_of_the_prefix(word, nearest):
    with pytest.raises(InvalidInputError, match=f"'{word}' are no credentials; .*{nearest}"):
        AllowedPrefix.parse(f"file:///x/={word}")


def test_a_container_must_be_declared():
    with pytest.raises(ContainerNotAllowedError, match="owner has to declare"):
        resolver({}, "s3://bucket/").resolve("s3://bucket/x")
    with pytest.raises(ContainerNotAllowedError, match="owner has to declare"):
        resolver(containers("s3://bucket/a/"), "s3://bucket/").resolve("s3://bucket/ab/x")


def test_a_declared_container_must_be_allowed_and_the_message_says_how():
    with pytest.raises(ContainerNotAllowedError, match="--allow-virtual s3://bucket/a/"):
        resolver(containers("s3://bucket/a/")).resolve("s3://bucket/a/x")
    with pytest.raises(ContainerNotAllowedError, match="--allow-virtual s3://bucket/a/"):
        resolver(containers("s3://bucket/a/"), "s3://bucket/a/b").resolve("s3://bucket/a/x")
    assert ContainerNotAllowedError.errno == errno.EACCES


async def test_a_store_that_zfuse_has_not_is_an_io_error_for_readers():
    class Refusing:
        async def open_container(self, root, store, credentials):
            raise InvalidInputError(f"{root} needs more")

    read = resolver(containers("s3://bucket/"), "s3://bucket/", opener=Refusing()).read
    with pytest.raises(ContainerNotOfferedError, match="s3://bucket/ needs more") as raised:
        await read(VirtualRef("s3://bucket/x", 0, 1), ByteRange(0, 1))
    assert raised.value.errno == errno.EIO


def test_what_is_allowed_may_be_wider_or_narrower_than_the_container():
    declared = containers("s3://bucket/a/")
    for allowed in ("s3://bucket/", "s3://bucket/a", "s3://bucket/a/b/"):
        place, found, _ = resolver(declared, allowed).resolve("s3://bucket/a/b/x")
        assert (place.root, place.key) == ("s3://bucket/", "a/b/x")
        assert found.url_prefix == "s3://bucket/a/"


def test_the_longest_prefix_wins():
    declared = containers("s3://b/", "s3://b/a/c/", "s3://b/a/")
    allowed = ["s3://b/=anonymous", "s3://b/a/c=env", "s3://b/a=profile:x"]
    found = resolver(declared, *allowed)
    for key, prefix, credentials in [
        ("x", "s3://b/", "anonymous"),
        ("a/x", "s3://b/a/", "profile:x"),
        ("a/c/x", "s3://b/a/c/", "env"),
        ("a/cc/x", "s3://b/a/", "profile:x"),
    ]:
        _, container, allow = found.resolve(f"s3://b/{key}")
        assert (container.url_prefix, allow.credentials) == (prefix, credentials)


@pytest.mark.parametrize(
    ("url", "root", "key"),
    [
        ("s3://bucket/a/b", "s3://bucket/", "a/b"),
        ("S3://bucket/a", "s3://bucket/", "a"),
        ("s3://bucket/a%20b%2Fc", "s3://bucket/", "a b/c"),
        ("s3://bucket/a%zz%", "s3://bucket/", "a%zz%"),
        ("s3://bucket/a?x=1#y", "s3://bucket/", "a"),
        ("s3://bucket/a%3Fx%23", "s3://bucket/", "a?x#"),
        ("s3://bucket/a+b\\c", "s3://bucket/", "a+b\\c"),
        ("s3://bucket/ü", "s3://bucket/", "ü"),
        ("s3://bucket/%C3%BC", "s3://bucket/", "ü"),
        ("http://Example.org:80/a", "http://example.org/", "a"),
        ("https://example.org:443/a", "https://example.org/", "a"),
        ("https://example.org:80/a", "https://example.org:80/", "a"),
        ("http://127.0.0.1:8080/a%20b?c", "http://127.0.0.1:8080/", "a b"),
        ("file:///data/x", "file:///", "data/x"),
        ("file://localhost/data/x", "file:///", "data/x"),
        ("FILE:///data/%2e/y/../x", "file:///", "data/x"),
        ("file:///data/y/%2E./x", "file:///", "data/x"),
        ("file:///../../x", "file:///", "x"),
        ("file:///data/y\\..\\x", "file:///", "data/x"),
        ("file:///data/%252e%252e/x", "file:///", "data/%2e%2e/x"),
    ],
)
def test_a_url_is_read_as_the_official_library_reads_it(url, root, key):
    place = Place.parse(url)
    assert (place.root, place.key, place.path) == (root, key, key)


CLIMBING = [
    "s3://bucket/in/../out/x",
    "s3://bucket/in/%2e%2e/out/x",
    "s3://bucket/in/..%2Fout/x",
    "s3://bucket/in%2F..%2Fout%2Fx",
    "s3://bucket/in/./../out/x",
    "s3://other/in/x",
    "s3://bucket:80/in/x",
    "s3://user@bucket/in/x",
    "s3://bucket/IN/x",
    "s3://bucket/inn/x",
    "s3://bucket/in",
    "s3://bucket/out?/in/x",
    "s3://bucket/out#/in/x",
    "file:///in/../out/x",
    "file:///in/%2E%2e/out/x",
    "file:///in\\..\\out\\x",
    "file:///in/y/../../out/x",
    "file://elsewhere/in/x",
    "file:///in%2F..%2Fout/x",
    "http://bucket/in/x",
    "https://example.org@evil.org/in/x",
    "https://evil.org/https://example.org/in/x",
    "https://example.org/in/../x",
    "https://example.org/in/%2e%2e/x",
    "https://example.org:444/in/x",
]


@pytest.mark.parametrize("url", CLIMBING)
def test_no_spelling_leads_out_of_a_container(url):
    prefixes = ["s3://bucket/in/", "file:///in/", "https://example.org/in/"]
    with pytest.raises(ContainerNotAllowedError):
        resolver(containers(*prefixes), *prefixes).resolve(url)
    wide = containers("s3://bucket/", "file:///in/", "https://example.org/in/", "s3://other/")
    with pytest.raises(ContainerNotAllowedError):  # nor out of what was allowed
        resolver(wide, *prefixes).resolve(url)


@pytest.mark.parametrize(
    "url",
    [
        "s3://bucket/in/y/../x",
        "s3://bucket/out/../in/x",
        "s3://bucket/in/./x",
        "s3://bucket/in/y/%2e%2e/x",
        "https://example.org/in/y/../x",
        "file:///in/y/..%2Fx",
        "file:///out%2F..%2Fin/x",
    ],
)
def test_dots_that_stay_inside_name_no_object(url):
    prefixes = ["s3://bucket/in/", "file:///in/", "https://example.org/in/"]
    with pytest.raises(CorruptionError, match="climbs"):
        resolver(containers(*prefixes), *prefixes).resolve(url)


segments = st.sampled_from(
    ["in", "out", "..", ".", "%2e%2e", "%2E.", "..%2f", "%252e%252e", "", "x"]
)


@given(st.sampled_from(["s3://b/", "file:///", "http://h/"]), st.lists(segments, max_size=7))
def test_whatever_is_read_lies_below_what_was_declared_and_allowed(root, path):
    declared = containers(f"{root}in/")
    try:
        place, _, _ = resolver(declared, f"{root}in/").resolve(root + "/".join(path))
    except (ContainerNotAllowedError, CorruptionError):
        return
    assert place.root == root
    # As the operating system would walk it, not as we compare it.
    assert os.path.normpath("/" + place.key).startswith("/in")
    assert place.key.startswith("in/")
    assert not {"..", "."} & set(place.key.split("/"))


def test_named_containers():
    declared = containers(n="s3://bucket/in/", m="file:///data/")
    found = resolver(declared, "s3://bucket/", "file:///data/")
    assert found.resolve("vcc://n/x/y")[0].key == "in/x/y"
    assert found.resolve("VCC://m/a/../y")[0].key == "data/y"
    for url in ("vcc://other/x", "vcc://N/x", "vcc:///x"):
        with pytest.raises(ContainerNotAllowedError, match="declares no virtual chunk container"):
            found.resolve(url)
    for url in ("vcc://n/../out/x", "vcc://m/../x", "vcc://m/%2e%2e/x"):
        with pytest.raises(ContainerNotAllowedError):
            found.resolve(url)


@pytest.mark.parametrize("location", ["", "x", "/data/x", "://x", "s3:/b/x", "s3://b/in/%ff"])
def test_what_is_no_url_is_corrupt(location):
    with pytest.raises(CorruptionError):
        resolver(containers("s3://b/in/"), "s3://b/").resolve(location)


async def test_a_store_is_opened_once_per_root_and_credentials():
    opener = Opened()
    for key in ("a/x", "a/y", "b/x"):
        await opener.storage.put(key, b"0123456789")
    declared = containers("s3://one/", "s3://two/")
    found = resolver(declared, "s3://one/", "s3://one/b/=env", "s3://two/=env", opener=opener)
    for url in ("s3://one/a/x", "s3://one/a/y", "s3://one/b/x", "s3://two/a/x"):
        assert await found.read(VirtualRef(url, 2, 5), ByteRange(1, 3)) == b"34"
    assert opener.calls == [
        ("s3://one/", "s3", None),
        ("s3://one/", "s3", "env"),
        ("s3://two/", "s3", "env"),
    ]


async def test_containers_can_be_declared_anew():
    opener = Opened()
    await opener.storage.put("x", b"0123456789")
    found = resolver({}, "s3://bucket/", opener=opener)
    ref = VirtualRef("s3://bucket/x", 0, 2)
    with pytest.raises(ContainerNotAllowedError):
        await found.read(ref, ByteRange(0, 2))
    found.declare(containers("s3://bucket/"))
    assert await found.read(ref, ByteRange(0, 2)) == b"01"
    found.declare({})
    with pytest.raises(ContainerNotAllowedError):
        await found.read(ref, ByteRange(0, 2))


def test_a_container_that_makes_no_sense_is_passed_over():
    bad = VirtualChunkContainer("s3://b/%ff/", StoreConfig("s3"))
    found = resolver({"x": bad} | containers("s3://b/"), "s3://b/")
    assert found.resolve("s3://b/x")[1].url_prefix == "s3://b/"


@pytest.fixture
async def local(tmp_path):
    """A resolver of a directory that is declared and allowed, and the directory."""
    data = tmp_path / "data"
    data.mkdir()
    prefix = f"file://{data}/"
    async with StorageOpener() as opener:
        yield resolver(containers(prefix), prefix, opener=Containers(opener)), data, prefix


async def read(local, name, **checks):
    found, _, prefix = local
    return await found.read(VirtualRef(prefix + name, 1, 4, **checks), ByteRange(0, 4))


async def test_reading_a_local_file(local):
    (local[1] / "sp ace").write_bytes(b"0123456789")
    assert await read(local, "sp%20ace") == b"1234"
    assert await read(local, "sp ace") == b"1234"


@pytest.mark.parametrize("name", ["absent", "directory", "file/below", "n" * 300])
async def test_a_vanished_source_is_missing_and_never_absent(local, name):
    (local[1] / "directory").mkdir()
    (local[1] / "file").touch()
    with pytest.raises(MissingObjectError, match="gone") as caught:
        await read(local, name)
    assert caught.value.errno == errno.EIO


@pytest.mark.parametrize("name", ["a//b", "a%00b", "a%2F%2Fb", "file/"])
async def test_a_name_that_no_file_has_is_corrupt(local, name):
    (local[1] / "file").write_bytes(b"0123456789")
    with pytest.raises(CorruptionError) as caught:
        await read(local, name)
    assert caught.value.errno == errno.EIO


async def test_a_source_must_not_be_newer_than_its_reference(local):
    path = local[1] / "x"
    path.write_bytes(b"0123456789")
    os.utime(path, ns=(0, 1_700_000_000_000_000_000))
    assert await read(local, "x", last_modified=1_700_000_000) == b"1234"
    assert await read(local, "x", last_modified=1_700_000_001) == b"1234"
    with pytest.raises(ChunkModifiedError, match="changed since"):
        await read(local, "x", last_modified=1_699_999_999)
    assert ChunkModifiedError.errno == errno.EIO


async def test_the_etag_of_a_local_file_never_matches(local):
    (local[1] / "x").write_bytes(b"0123456789")
    with pytest.raises(ChunkModifiedError):
        await read(local, "x", etag="abc")


async def test_checks_are_passed_on_as_they_were_stored():
    class Strict(MemoryStorage):
        async def get_range(self, key, byte_range, *, unmodified=None):
            assert unmodified == Unmodified(etag="e")
            raise PreconditionFailedError("no")

    opener = Opened()
    opener.storage = Strict()
    found = resolver(containers("s3://b/"), "s3://b/", opener=opener)
    with pytest.raises(ChunkModifiedError):
        await found.read(VirtualRef("s3://b/x", 0, 1, etag="e"), ByteRange(0, 1))


async def test_refused_credentials_name_the_way_out():
    class Closed(MemoryStorage):
        async def get_range(self, key, byte_range, *, unmodified=None):
            raise AccessDeniedError("403")

    opener = Opened()
    opener.storage = Closed()
    found = resolver(containers("s3://b/"), "s3://b/", opener=opener)
    with pytest.raises(AccessDeniedError, match="--allow-virtual s3://b/=anonymous"):
        await found.read(VirtualRef("s3://b/x", 0, 1), ByteRange(0, 1))


@pytest.mark.compat
async def test_over_http_the_same_is_read_as_by_the_official_library(nginx, tmp_path):
    directory = nginx.root / tmp_path.name
    prefix = f"{nginx.url}/{tmp_path.name}/"
    names = {"plain": b"0123", "sp ace": b"1234", "per%cent": b"2345", "ü": b"3456", "q?": b"4567"}
    (directory / "sub").mkdir(parents=True)
    for name, data in names.items():
        (directory / name).write_bytes(data)
    (directory / "sub/x").write_bytes(b"abcd")
    (tmp_path / "at").mkdir()
    place = local_place(tmp_path / "at")
    config = icechunk.RepositoryConfig.default()
    store = icechunk.http_store()
    config.set_virtual_chunk_container(icechunk.VirtualChunkContainer(prefix, store, "web"))
    grant = {prefix: icechunk.credentials.HttpAccess}
    repo = create(place, 2, config, authorize_virtual_chunk_access=grant)
    repo.save_config()
    locations = [
        *("plain", "sp ace", "sp%20ace", "per%25cent", "per%cent", "ü", "%C3%BC", "q%3F"),
        *("plain?x=1", "plain#x", "sub/x", "sub%2Fx", "absent", "sub/../plain"),
    ]
    with changing(repo, "refer") as session:
        put(session, "a/zarr.json", array_document((400,), (4,)))
        for number, name in enumerate(locations):
            session.set_virtual_ref(
                f"a/c/{number}", prefix + name, offset=0, length=4, validate_container=False
            )
        session.set_virtual_ref("a/c/90", "vcc://web/sp%20ace", offset=0, length=4)
        session.set_virtual_ref("a/c/91", prefix + "plain", offset=1, length=4)
    official = official_keys(repo, Ref("branch", "main"))
    async with driving(place.url, allow=[prefix]) as driven:
        for number in [*range(len(locations)), 90, 91]:
            found = await driven.find(f"branch/main/a/c/{number}")
            content = await content_of(driven, found.inode)
            assert content == official[f"a/c/{number}"], locations[number % 90]


@pytest.mark.compat
async def test_a_container_declared_later_can_be_read_after_a_refresh(tmp_path):
    place = local_place(tmp_path)
    repo = create(place, 2)
    location = source(place, "x.bin", b"0123456789")
    with changing(repo, "refer") as session:
        put(session, "a/zarr.json", array_document((4,), (4,)))
        session.set_virtual_ref("a/c/0", location, offset=0, length=4, validate_container=False)
    async with driving(place.url, allow=[place.prefix]) as driven:
        found = await driven.find("branch/main/a/c/0")
        with pytest.raises(ContainerNotAllowedError):
            await driven.read(found.inode)
        config = repo.config
        config.set_virtual_chunk_container(container(place))
        grant = access(place.prefix)
        icechunk.Repository.open(
            place.storage, config=config, authorize_virtual_chunk_access=grant
        ).save_config()
        await driven.fs.refresh()
        assert await driven.read(found.inode) == b"0123"
