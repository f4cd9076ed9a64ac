"""Files that others wrote: where they are, and what is known of them."""

import os

import numpy as np
import pytest

from zfuse.errors import AccessDeniedError, InvalidInputError, NotFoundError, StorageError
from zfuse.storage.foreign_files import (
    LocalFiles,
    ObjectAccess,
    canonical_url,
    is_plain,
    joined_columns,
    split_url,
    url_of,
)
from zfuse.storage.options import StorageOptions


@pytest.mark.parametrize(
    ("text", "url", "key"),
    [
        ("/a/b", "file:///a/b", "a/b"),
        ("/a b/%20/#?é", "file:///a%20b/%2520/%23%3F%C3%A9", "a b/%20/#?é"),
        ("file:///a%20b/c/", "file:///a%20b/c", "a b/c"),
        ("file://localhost/a", "file:///a", "a"),
        ("s3://bucket/a b/%20", "s3://bucket/a%20b/%2520", "a b/%20"),
        ("S3://bucket/x.zarr/", "s3://bucket/x.zarr", "x.zarr"),
        ("s3a://bucket/x", "s3://bucket/x", "x"),
        ("https://host:1/a%20b", "https://host:1/a%20b", "a b"),
    ],
)
def test_a_place_has_one_url(text, url, key):
    assert canonical_url(text) == url
    root, found = split_url(url)
    assert found == key
    assert url_of(root, key) == url


def test_relative_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert canonical_url("x y") == f"file://{tmp_path}/x%20y"


@pytest.mark.parametrize(
    "text", ["../b/x", "{}/link/../b/x", "file://{}/a/./%2e%2e//b/x/", "/{}/b/x", "/..{}/b/x"]
)
def test_a_path_has_one_url_without_dots(tmp_path, monkeypatch, text):
    (tmp_path / "a" / "c").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    monkeypatch.chdir(tmp_path / "a")
    assert canonical_url(text.format(tmp_path)) == f"file://{tmp_path}/b/x"


def test_links_are_what_they_are_called(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    assert canonical_url(f"{tmp_path}/x/../link/y") == f"file://{tmp_path}/link/y"


@pytest.mark.parametrize(
    "text",
    [
        *("s3://b/a//x", "s3://b//x", "s3://b/../x", "s3://b/a/./x", "s3:///x"),
        *("s3://", "gs://b/x", "ftp://h/x", "file://h/x"),
        *("https://u:p@h/x", "http://h/x?y", "http://h/x#y"),
    ],
)
def test_places_that_can_not_be_read(text):
    with pytest.raises(InvalidInputError):
        canonical_url(text)


def test_which_bytes_urls_hold():
    assert is_plain(np.frombuffer(b"a/b-c.d_e~0:@!$&'()*+,;=", np.uint8))
    for byte in b' "#%<>?[\\]^`{|}\xc3\x00':
        assert not is_plain(np.array([byte], np.uint8))


def rows(columns) -> dict[bytes, tuple[int, int]]:
    found = {}
    for start, size, length, time in zip(
        columns.names.starts, columns.names.sizes, columns.sizes, columns.modified_ns, strict=True
    ):
        name = columns.names.data[start : start + size].tobytes()
        found[name] = (int(length), int(time))
    return found


def test_local_files(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name in ("x", "a/y", "a/b/é"):
        (tmp_path / name).write_bytes(name.encode())
        os.utime(tmp_path / name, ns=(1, 10**18 + 7))
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "itself").symlink_to("itself")
    key = str(tmp_path).lstrip("/")
    found = LocalFiles().list(f"{key}/")
    sizes = {"x": 1, "a/y": 3, "link/y": 3, "a/b/é": 6, "link/b/é": 6}
    assert rows(found) == {name.encode(): (size, 10**18 + 7) for name, size in sizes.items()}
    assert (found.etags.sizes == -1).all()
    assert rows(LocalFiles().head(f"{key}/x")) == {f"{key}/x".encode(): (1, 10**18 + 7)}
    assert LocalFiles().read(f"{key}/a/y", 1, 2) == b"/y"
    assert rows(LocalFiles().list(f"{key}/nowhere/")) == {}
    with pytest.raises(NotFoundError, match="x/y does not exist"):
        LocalFiles().head(f"{key}/x/y")
    with pytest.raises(InvalidInputError, match="is a directory"):
        LocalFiles().read(f"{key}/a")


@pytest.mark.parametrize("links", [{"a/x": "."}, {"a/x": ".."}, {"a/x": "../b", "b/y": "../a"}])
def test_links_that_never_end_are_an_error(tmp_path, links):
    for name, target in links.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).symlink_to(target)
    with pytest.raises(InvalidInputError, match=r"/[xy]/ is a link to a directory that it lies in"):
        LocalFiles().list(f"{str(tmp_path).lstrip('/')}/")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StorageError, match="pipe can not be read"):
        LocalFiles().read(f"{tmp_path}/pipe".lstrip("/"))


def test_buckets(s3_server, monkeypatch):
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    bucket = s3_server.make_bucket()
    client = s3_server.client()
    for key in ("in/a b", "in/c/%20", "in/c/é", "in2/x"):
        client.put_object(Bucket=bucket, Key=key, Body=key.encode())
    client.close()
    files = ObjectAccess(StorageOptions()).files(f"s3://{bucket}/")
    found = files.list("in/")
    names = {b"a b": 6, b"c/%20": 8, "c/é".encode(): 7}
    assert {name: size for name, (size, _) in rows(found).items()} == names
    assert (found.etags.sizes > 0).all()
    one = files.head("in/c/%20")
    assert int(one.sizes[0]) == 8
    assert files.read("in/c/é", 3, 4) == "c/é".encode()[:4]
    assert files.read("in/c/é", 3) == "c/é".encode()
    with pytest.raises(NotFoundError, match="in/nothing does not exist"):
        files.head("in/nothing")
    assert len(joined_columns([found, one]).sizes) == 4
    assert len(joined_columns([]).sizes) == 0
    registry = ObjectAccess(StorageOptions()).registry()
    store, key = registry.resolve(f"s3://{bucket}/in/c/%2520")
    assert bytes(store.get(key).bytes()) == b"in/c/%20"
    denied = ObjectAccess(StorageOptions(anonymous=True)).files(f"s3://{bucket}/")
    with pytest.raises(AccessDeniedError, match="may not be read"):
        denied.list("in/")
