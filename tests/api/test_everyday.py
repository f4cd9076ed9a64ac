"""The same calls on zfuse and on the official library: the same results, the same exceptions."""

from functools import cache

import icechunk
import pytest

import zfuse
from tests.api.calls import CALLS, READING, STORED
from tests.api.everyday import make_world
from tests.api.outcome import outcome

icechunk.set_logs_filter("off")
pytestmark = pytest.mark.compat


def world(ic, place, directory):
    """Return a world of the library *ic*."""
    if place == "memory":
        return make_world(ic, ic.in_memory_storage())
    return make_world(ic, ic.local_filesystem_storage(str(directory / ic.__name__)))


@cache
def common_world(ic):
    """Return a world that nobody changes."""
    return make_world(ic, ic.in_memory_storage())


@pytest.mark.parametrize(
    ("name", "place"),
    [*((name, "memory") for name in CALLS), *((name, "local") for name in STORED)],
)
def test_everyday_calls_come_to_the_same(name, place, tmp_path):
    """What a call returns or raises, and what it changes, does not depend on the library."""
    found = {}
    for ic in (icechunk, zfuse):
        made = common_world(ic) if name in READING else world(ic, place, tmp_path)
        found[ic.__name__] = outcome(lambda made=made: CALLS[name](made), made.names)
    assert found["zfuse"] == found["icechunk"]


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(STORED.keys() - {"expire and collect"}))
def test_everyday_calls_come_to_the_same_in_s3(name, s3_server):
    """As far as they depend on the store, but for what S3 tells of times: whole seconds."""
    found = {}
    for ic in (icechunk, zfuse):
        storage = ic.s3_storage(
            bucket=s3_server.make_bucket(),
            prefix="repo",
            region="us-east-1",
            endpoint_url=s3_server.endpoint,
            allow_http=True,
            force_path_style=True,
            access_key_id=s3_server.access_key,
            secret_access_key=s3_server.secret_key,
        )
        made = make_world(ic, storage)
        found[ic.__name__] = outcome(lambda made=made: CALLS[name](made), made.names)
    assert found["zfuse"] == found["icechunk"]


def test_there_are_enough_everyday_calls():
    """The list may grow."""
    assert len(CALLS) >= 60
    assert len(STORED) >= 60
