"""Repositories in S3: with every kind of credentials, and with virtual chunks there."""

import contextlib
import datetime as dt
import pickle
import subprocess
import sys
from functools import partial

import icechunk
import pytest
import zarr

import zfuse
from tests.api.everyday import group, make_world, write

icechunk.set_logs_filter("off")
pytestmark = pytest.mark.compat

REGION = "us-east-1"


def asked(record, access_key, secret_key, seconds):
    """Return an access key that is good for *seconds*, and note in *record* that it was asked."""
    with record.open("a") as file:
        file.write("asked\n")
    expires = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)
    return zfuse.S3StaticCredentials(access_key, secret_key, expires_after=expires)


def storage(server, bucket, ic=zfuse, **credentials):
    """Return the storage in *bucket*, with the key of the server unless others are given."""
    if not credentials:
        credentials = {
            "access_key_id": server.access_key,
            "secret_access_key": server.secret_key,
        }
    return ic.s3_storage(
        bucket=bucket,
        prefix="some/where",
        region=REGION,
        endpoint_url=server.endpoint,
        allow_http=True,
        force_path_style=True,
        **credentials,
    )


def test_both_libraries_work_on_one_repository(s3_server):
    """What one commits the other reads, and the rebase of one goes on top of the other's."""
    bucket = s3_server.make_bucket()
    world = make_world(zfuse, storage(s3_server, bucket))
    theirs = icechunk.Repository.open(storage(s3_server, bucket, icechunk))
    assert [i.message for i in theirs.ancestry(branch="main")][:2] == ["second", "first"]
    mine, other = world.repo.writable_session("main"), theirs.writable_session("main")
    write(5)(group(mine))
    group(other)["a"][4, 0] = 6
    mine.commit("zfuse")
    other.commit("icechunk", rebase_with=icechunk.ConflictDetector())
    session = world.repo.writable_session("main")
    write(7)(group(session))
    session.commit("zfuse again")
    for repo in (world.repo, theirs):
        found = group(repo.readonly_session("main"))["a"]
        assert (int(found[0, 0]), int(found[4, 0])) == (7, 6)


def test_sessions_go_through_pickles_with_their_credentials(s3_server):
    """Another process needs nothing but the pickle."""
    world = make_world(zfuse, storage(s3_server, s3_server.make_bucket()))
    copy = pickle.loads(pickle.dumps(world.repo.readonly_session("main")))
    assert group(copy)["a"][0, 0] == 1
    assert s3_server.secret_key not in repr(world.storage)


def test_refreshable_credentials_are_asked_again_before_they_expire(s3_server, tmp_path):
    """Once for what lives long; the function is pickled into every process."""
    bucket, record = s3_server.make_bucket(), tmp_path / "record"
    function = partial(asked, record, s3_server.access_key, s3_server.secret_key, 10_000)
    place = storage(s3_server, bucket, get_credentials=function)
    world = make_world(zfuse, place)
    assert record.read_text() == "asked\n"
    copy = pickle.loads(pickle.dumps(world.repo))
    assert copy.list_tags() == {"v1"}
    assert record.read_text() == "asked\n"


def test_wrong_keys_are_a_storage_error(s3_server):
    """In one line, whatever was asked."""
    bucket = s3_server.make_bucket()
    place = storage(s3_server, bucket, access_key_id="nobody", secret_access_key="nothing")
    with pytest.raises(zfuse.StorageError) as caught:
        zfuse.Repository.open(place)
    assert "\n" not in str(caught.value)


def virtual_repository(ic, server, bucket, access):
    """Make a repository with one array whose chunk is in an object of another bucket."""
    config = ic.RepositoryConfig.default()
    store = ic.s3_store(
        region=REGION, endpoint_url=server.endpoint, allow_http=True, force_path_style=True
    )
    prefix = f"s3://{bucket}/data/"
    config.set_virtual_chunk_container(ic.VirtualChunkContainer(prefix, store))
    credentials = None if access is None else ic.containers_credentials({prefix: access})
    repo = ic.Repository.create(ic.in_memory_storage(), config, credentials)
    session = repo.writable_session("main")
    zarr.create_array(
        session.store, shape=(4,), chunks=(4,), dtype="u1", compressors=None, filters=None
    )
    session.store.set_virtual_ref("c/0", f"{prefix}file", offset=2, length=4)
    session.commit("virtual")
    return repo


@pytest.mark.parametrize("ic", [icechunk, zfuse])
def test_virtual_chunks_are_read_with_the_credentials_of_their_prefix(ic, s3_server):
    """And refused where none were given for it."""
    bucket = s3_server.make_bucket()
    with contextlib.closing(s3_server.client()) as client:
        client.put_object(Bucket=bucket, Key="data/file", Body=b"__abcd__")
    key = ic.s3_credentials(
        access_key_id=s3_server.access_key, secret_access_key=s3_server.secret_key
    )
    allowed = virtual_repository(ic, s3_server, bucket, key)
    found = zarr.open_array(allowed.readonly_session("main").store, mode="r")[:]
    assert bytes(found) == b"abcd"
    refused = virtual_repository(ic, s3_server, bucket, None)
    array = zarr.open_array(refused.readonly_session("main").store, mode="r")
    with pytest.raises(ic.IcechunkError) as caught:
        array[:]
    assert caught.value.kind == ic.ErrorKind.UNAUTHORIZED_VIRTUAL_CHUNK_CONTAINER
    assert type(caught.value).__name__ == "InvalidInputError"
    if ic is zfuse:
        assert "authorize_virtual_chunk_access" in str(caught.value)


def test_a_program_that_ends_says_nothing(s3_server):
    """Whatever it has open: a forgotten client would complain."""
    bucket = s3_server.make_bucket()
    program = f"""
import zfuse
storage = zfuse.s3_storage(
    bucket={bucket!r}, prefix="p", region={REGION!r}, endpoint_url={s3_server.endpoint!r},
    allow_http=True, force_path_style=True,
    access_key_id={s3_server.access_key!r}, secret_access_key={s3_server.secret_key!r},
)
repo = zfuse.Repository.create(storage)
session = repo.writable_session("main")
history = repo.ancestry(branch="main")
print(next(history).message)
"""
    ended = subprocess.run(
        [sys.executable, "-W", "default", "-c", program],
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    assert (ended.stdout, ended.stderr) == ("Repository initialized\n", "")
