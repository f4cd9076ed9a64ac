"""icechunk 2.3.0 reads what zfuse writes, and goes on with it, as if it were its own."""

import shutil
from datetime import UTC, datetime, timedelta

import icechunk
import pytest

from tests.compat.documents import array_document, put, put_all
from tests.compat.golden import NAMES, Golden
from tests.compat.golden_report import report
from tests.compat.oracle import official_keys
from tests.compat.place import Made, Ref, access, changing, local_place
from tests.compat.repositories import CASES, build
from tests.format.rewriting import rewrite

pytestmark = pytest.mark.compat


def opened(directory, made):
    storage = icechunk.local_filesystem_storage(str(directory))
    return icechunk.Repository.open(storage, authorize_virtual_chunk_access=access(*made.allow))


def told(directory, made, ignored=()):
    """Return all that the official library says, but who wrote it and how large files are."""
    odd = {"branches": made.branches, "tags": made.tags}
    return without(report(opened(directory, made), odd), {"header", "size_bytes", *ignored})


def without(value, ignored):
    match value:
        case {"node_id": _, "chunks": chunks}:  # which icechunk 1.1.21 did not sort
            return value | {"chunks": sorted(chunks)}
        case dict():
            return {key: without(value[key], ignored) for key in value.keys() - ignored}
        case list():
            return [without(item, ignored) for item in value]
        case _:
            return value


def rewritten(name, spec, directory):
    """Return two equal repositories, the second of which zfuse has rewritten."""
    made = build(name, spec, local_place(directory))
    copy = directory / "copy"
    shutil.copytree(made.url, copy)
    assert rewrite(copy) > 0
    return made, copy


@pytest.mark.parametrize(("name", "spec"), CASES)
def test_rewritten_repositories(name, spec, tmp_path):
    made, copy = rewritten(name, spec, tmp_path)
    assert told(copy, made) == told(made.url, made)


@pytest.mark.parametrize("name", NAMES)
def test_rewritten_files_of_old_writers(name, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(Golden(name).repository, copy)
    made = Made(local_place(tmp_path), spec=0)
    # icechunk 1.1.21 did not say that it compresses nothing, which counts as the opposite.
    ignored = {"uses_location_compression"} if "1.1.21" in name else ()
    before = told(copy, made, ignored)
    assert rewrite(copy) > 0
    assert told(copy, made, ignored) == before


# The official library can not expire what is in refs_v1: it does not find refs of odd names.
@pytest.mark.parametrize(("name", "spec"), [case for case in CASES if case[0] != "refs_v1"])
def test_rewritten_repositories_go_on(name, spec, tmp_path):
    made, copy = rewritten(name, spec, tmp_path)
    assert gone_on(copy, made) == gone_on(made.url, made)


def gone_on(directory, made):
    """Change and clean up a repository in every way; return what its branches hold then."""
    repo = opened(directory, made)
    if made.spec > 1:
        repo.set_status(icechunk.RepoStatus(icechunk.RepoAvailability.online))
        repo.set_feature_flag("delete_tag", None)
    with changing(repo, "more") as store:
        put(store, "later/zarr.json", array_document((1000,), (1,)))
        put_all(store, {f"later/c/{n}": bytes([n]) * 600 for n in range(3)})
    first = opened(directory, made).lookup_branch("main")
    session = repo.writable_session("main")
    put(session.store, "later/c/7", b"more")
    session.amend("amended") if made.spec > 1 else session.commit("next")
    repo.create_tag("late", repo.lookup_branch("main"))
    repo.rewrite_manifests("rewritten", branch="main")
    released = repo.expire_snapshots(datetime.now(UTC))
    repo.delete_tag("late")
    summary = repo.garbage_collect(datetime.now(UTC) + timedelta(days=1))
    again = opened(directory, made)
    branches = again.list_branches()
    return {
        "branches": {name: official_keys(again, Ref("branch", name)) for name in branches},
        "changes": len(list(again.ops_log())) if made.spec > 1 else None,
        "history": [info.message for info in again.ancestry(branch="main")],
        "released": len(released),
        "first is gone": first in released,
        "deleted": (summary.snapshots_deleted, summary.manifests_deleted, summary.chunks_deleted),
    }
