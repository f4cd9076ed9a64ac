"""Where the repositories of the store's tests are: in memory, in a directory, on S3."""

import contextlib
import itertools

from zfuse.portal import run
from zfuse.storage.local import LocalStorage
from zfuse.storage.memory import MemoryStorage
from zfuse.storage.open import StorageOpener
from zfuse.storage.options import StorageOptions

PLACES = ("memory", "local", "s3")

_NUMBERS = itertools.count()
_BUCKETS = {}  # by the server's address, as making one takes a while


@contextlib.contextmanager
def storage_at(place, request):
    """Give an empty storage; *request* is that of a fixture or a test."""
    if place == "memory":
        yield MemoryStorage()
    elif place == "local":
        yield LocalStorage(request.getfixturevalue("tmp_path"))
    else:
        server = request.getfixturevalue("s3_server")
        with s3_storage(server) as storage:
            yield storage


@contextlib.contextmanager
def s3_storage(server):
    """Give an empty storage on *server*."""
    options = StorageOptions(
        endpoint_url=server.endpoint,
        force_path_style=True,
        access_key_id=server.access_key,
        secret_access_key=server.secret_key,
    )
    bucket = _BUCKETS.get(server.endpoint) or server.make_bucket()
    _BUCKETS[server.endpoint] = bucket
    opener = StorageOpener()
    try:
        yield run(opener.open, f"s3://{bucket}/{next(_NUMBERS)}", options)
    finally:
        run(opener.aclose)
