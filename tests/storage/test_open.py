import subprocess
import sys
import threading
from pathlib import Path

import pytest

from zfuse.errors import InvalidInputError, StorageError
from zfuse.storage.open import (
    HttpLocation,
    LocalLocation,
    S3Location,
    StorageOpener,
    parse_location,
)
from zfuse.storage.options import StorageOptions
from zfuse.storage.retry import RetryingStorage


@pytest.mark.parametrize(
    ("location", "found"),
    [
        ("/data/repo", LocalLocation(Path("/data/repo"))),
        ("/data/re#po?", LocalLocation(Path("/data/re#po?"))),
        ("data", LocalLocation(Path.cwd() / "data")),
        ("./data", LocalLocation(Path.cwd() / "data")),
        ("a:b", LocalLocation(Path.cwd() / "a:b")),
        ("file:///data/a%20b%25", LocalLocation(Path("/data/a b%"))),
        ("FILE:///data", LocalLocation(Path("/data"))),
        ("file://localhost/data", LocalLocation(Path("/data"))),
        ("s3://bucket", S3Location("bucket", "")),
        ("s3://bucket/", S3Location("bucket", "")),
        ("s3://bucket/a/b/", S3Location("bucket", "a/b")),
        ("s3://bucket/a%20b c", S3Location("bucket", "a%20b c")),
        ("S3://Bucket/A", S3Location("Bucket", "A")),
        ("https://host/a/", HttpLocation("https://host/a")),
        ("http://host:8080", HttpLocation("http://host:8080")),
    ],
)
def test_locations(location, found):
    assert parse_location(location) == found


def test_a_directory_has_one_path_however_it_is_spelled(tmp_path, monkeypatch):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "a" / "b")
    monkeypatch.chdir(tmp_path / "a")
    spellings = ["../a/repo", f"{tmp_path}/link/../repo", f"file://{tmp_path}/a/./b/%2e%2e//repo/"]
    for location in spellings:
        assert parse_location(location) == LocalLocation(tmp_path / "a" / "repo")


@pytest.mark.parametrize(
    ("location", "told"),
    [
        ("", "empty"),
        ("s3://", "bucket"),
        ("s3:///key", "bucket"),
        ("http://", "host"),
        ("https:///path", "host"),
        ("http://[::1/", "valid host"),
        ("http://host:99999", "valid host"),
        ("file://host/path", "three slashes"),
        ("file://", "three slashes"),
        ("gs://bucket/x", "extra 'cloud'"),
        ("az://container/x", "extra 'cloud'"),
        ("memory://x", "unknown scheme memory"),
        ("ftp://host/x", "unknown scheme ftp"),
    ],
)
def test_what_is_no_location_says_why(location, told):
    with pytest.raises(InvalidInputError, match=told):
        parse_location(location)


@pytest.mark.parametrize(
    "location",
    [
        "https://user:hush@host/data",
        "http://hush@host",
        "HTTPS://user:hush@[::1]:80/",
        "https://user:hu@hush@host/",
        "https://user:hush/hush@host/",
        "ftp://user:hush@host/",
    ],
)
async def test_an_url_with_a_password_is_refused_without_showing_it(opener, location):
    with pytest.raises(InvalidInputError) as caught:
        await opener.open(location)
    assert "hush" not in str(caught.value)


def test_secrets_are_not_printed():
    options = StorageOptions(access_key_id="me", secret_access_key="hush", session_token="hush")
    assert "hush" not in repr(options)


async def test_a_local_storage_is_wrapped_and_works(opener, tmp_path):
    storage = await opener.open(str(tmp_path))
    assert isinstance(storage, RetryingStorage)
    assert storage.url == str(tmp_path)
    await storage.put("k", b"hello")
    assert (tmp_path / "k").read_bytes() == b"hello"


def threads():
    """Return the names of all threads but those that trio keeps for blocking calls."""
    names = {thread.name for thread in threading.enumerate()}
    return {name for name in names if not name.startswith("Trio ")}


async def test_remote_storages_share_one_thread_and_close_with_the_opener(nginx):
    before = threads()
    (nginx.root / "opened").write_bytes(b"hello")
    async with StorageOpener() as opener:
        storages = [await opener.open(nginx.url) for _ in range(5)]
        storages.append(await opener.open(nginx.url, StorageOptions(anonymous=True)))
        for storage in storages:
            assert (await storage.get("opened")).data == b"hello"
        assert [t.name for t in threading.enumerate()].count("zfuse-asyncio") == 1
    assert "zfuse-asyncio" not in before
    assert threads() <= before
    opener_again = StorageOpener()
    await opener_again.aclose()


async def test_opening_and_closing_leaks_nothing(nginx, open_descriptors):
    (nginx.root / "opened").write_bytes(b"hello")

    async def cycle():
        async with StorageOpener() as opener:
            await (await opener.open(nginx.url)).get("opened")

    await cycle()
    before = open_descriptors()
    for _ in range(10):
        await cycle()
    assert open_descriptors() <= before


async def test_a_closed_storage_says_so(tmp_path, s3_server):
    async with StorageOpener() as opener:
        options = StorageOptions(endpoint_url=s3_server.endpoint, anonymous=True, deadline_s=1)
        storage = await opener.open("s3://bucket", options)
    with pytest.raises(StorageError, match="closed"):
        await storage.head("k")


def test_a_local_directory_costs_no_import_of_aws():
    code = """
        import sys, trio
        from zfuse.storage.open import StorageOpener
        async def main():
            async with StorageOpener() as opener:
                await (await opener.open("/")).head("etc/hostname")
            print(sorted({"botocore", "aiobotocore", "aiohttp"} & set(sys.modules)))
        trio.run(main)
    """
    code = "\n".join(line[8:] for line in code.splitlines())
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr
