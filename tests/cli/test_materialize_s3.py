"""zfuse fsck and zfuse materialize where repository and sources lie on S3, with etags."""

import contextlib

import icechunk
import pytest

from tests.cli.working import command
from tests.compat.documents import array_document, get_all, put
from tests.compat.place import changing, create, s3_place

__all__ = ["command"]

COUNT = 6
SIZE = 2000


@pytest.fixture
def made(s3_server, tmp_path, monkeypatch):
    """A repository with virtual chunks in another bucket; what opens it, and that bucket."""
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    data, bucket = s3_server.make_bucket(), s3_server.make_bucket()
    key, secret = s3_server.access_key, s3_server.secret_key
    place = s3_place(
        tmp_path, endpoint=s3_server.endpoint, bucket=bucket, prefix="repo", key=key, secret=secret
    )
    store = icechunk.s3_store(
        region="us-east-1",
        endpoint_url=s3_server.endpoint,
        allow_http=True,
        s3_compatible=True,
        force_path_style=True,
    )
    config = icechunk.RepositoryConfig.default()
    prefix = f"s3://{data}/"
    config.set_virtual_chunk_container(icechunk.VirtualChunkContainer(prefix, store))
    credentials = icechunk.s3_credentials(access_key_id=key, secret_access_key=secret)
    access = icechunk.containers_credentials({prefix: credentials})
    repo = create(place, 2, config, authorize_virtual_chunk_access=access)
    repo.save_config()
    with contextlib.closing(s3_server.client()) as client:
        etag = client.put_object(Bucket=data, Key="big.bin", Body=bytes(range(250)) * 100)["ETag"]
    with changing(repo, "virtual") as session_store:
        put(session_store, "v/zarr.json", array_document((COUNT,), (1,)))
        for n in range(COUNT):
            session_store.set_virtual_ref(
                f"v/c/{n}",
                f"{prefix}big.bin",
                offset=n * SIZE,
                length=SIZE,
                checksum=etag.strip('"'),
            )
    return repo, place.url, data


def test_etags_are_looked_at_and_afterwards_nobody_needs_the_source(command, made, s3_server):
    repo, url, data = made
    allow = ("--allow-virtual", f"s3://{data}/=env", "--force-path-style")
    before = get_all(repo.readonly_session("main").store)
    command("fsck", url, "--virtual", *allow).says("1 virtual source", "no faults")
    told = command("materialize", url, "-m", "own", *allow, "--json").json
    assert (told["objects_stored"], told["bytes_stored"]) == (COUNT, COUNT * SIZE)
    with contextlib.closing(s3_server.client()) as client:
        client.delete_object(Bucket=data, Key="big.bin")
    assert get_all(repo.readonly_session("main").store) == before
    command("fsck", url, "--deep", *allow).says(f"{COUNT} chunk objects", "no faults")


def test_another_etag_is_a_fault(command, made, s3_server):
    _, url, data = made
    with contextlib.closing(s3_server.client()) as client:
        client.put_object(Bucket=data, Key="big.bin", Body=bytes(100_000))
    allow = ("--allow-virtual", f"s3://{data}/=env", "--force-path-style")
    outcome = command("fsck", url, "--virtual", *allow, "--json")
    finding, _ = outcome.json_lines
    assert outcome.status == 8
    assert "changed since it was referenced: etag" in finding["problem"]
    assert finding["chunks"] == [[n] for n in range(COUNT)]
    outcome = command("materialize", url, "-m", "own", *allow)
    assert outcome.status == 8
    assert "nothing was committed" in outcome.err
