"""One of many processes that commit to one branch: ``python -m tests.repo.writer SPEC``.

SPEC is JSON: url, writer (its number), commits, library (zfuse or icechunk), and endpoint, key
and secret for S3. Writer w sets in its n-th commit the chunk (w, n) of the array ``/a``. A line on
stdin starts it, so that all start at once.
"""

import json
import sys

import icechunk
import trio

from tests.compat.documents import put
from tests.repo.driving import NoVirtualChunks
from zfuse.repo.repository import Repository
from zfuse.repo.session import Session
from zfuse.storage.open import StorageOpener
from zfuse.storage.options import StorageOptions


def content(writer, number):
    """Return the bytes of a chunk; some fit into the manifest and some do not."""
    return b"%d-%d" % (writer, number) * (1 if number % 2 else 200)


async def write_with_zfuse(spec):
    options = StorageOptions(
        endpoint_url=spec.get("endpoint"),
        region="us-east-1",
        force_path_style=True,
        access_key_id=spec.get("key"),
        secret_access_key=spec.get("secret"),
        deadline_s=120,
    )
    async with StorageOpener() as opener:
        storage = await opener.open(spec["url"], options)
        repository = await Repository.open(storage, virtual=NoVirtualChunks())
        session = await Session.open(repository, "main")
        sys.stdin.readline()
        for number in range(spec["commits"]):
            await session.set_chunk("/a", (spec["writer"], number), content(spec["writer"], number))
            snapshot_id = await session.commit(f"{spec['writer']} {number}")
            assert snapshot_id is not None
            assert not session.has_changes


def write_with_icechunk(spec):
    bucket, _, prefix = spec["url"].removeprefix("s3://").partition("/")
    storage = icechunk.s3_storage(
        bucket=bucket,
        prefix=prefix,
        region="us-east-1",
        endpoint_url=spec["endpoint"],
        allow_http=True,
        access_key_id=spec["key"],
        secret_access_key=spec["secret"],
        force_path_style=True,
    )
    repo = icechunk.Repository.open(storage)
    sys.stdin.readline()
    for number in range(spec["commits"]):
        session = repo.writable_session("main")
        key = f"a/c/{spec['writer']}/{number}"
        put(session.store, key, content(spec["writer"], number))
        session.commit(
            f"{spec['writer']} {number}",
            rebase_with=icechunk.ConflictDetector(),
            rebase_tries=1000,
        )


def main():
    spec = json.loads(sys.argv[1])
    if spec["library"] == "zfuse":
        trio.run(write_with_zfuse, spec)
    else:
        write_with_icechunk(spec)


if __name__ == "__main__":
    main()
