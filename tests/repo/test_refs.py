"""Branches and tags made, moved and deleted, in memory and judged by the official library."""

import icechunk
import pytest

from tests.compat.place import changing
from tests.repo.driving import open_repository
from tests.repo.stores import another
from zfuse.errors import (
    AlreadyExistsError,
    ConflictError,
    InvalidInputError,
    NotAllowedError,
    NotFoundError,
    OutcomeUnknownError,
    ReadOnlyError,
)
from zfuse.format.ids import INITIAL_SNAPSHOT, SnapshotId
from zfuse.format.repo_info import Availability
from zfuse.format.repo_update import FeatureFlag
from zfuse.repo.refs import create_branch, create_tag, delete_branch, delete_tag, reset_branch
from zfuse.repo.settings import set_feature_flag, set_status

ODD_NAMES = ["dev", " a:b", "ü%20", "*", "a~", "[x]"]
UNKNOWN = SnapshotId(bytes(12))


@pytest.fixture
def tip(session):
    """The newest of three snapshots; the repository is the session's."""
    return session.base.id


async def stored(repository):
    """Return the refs as they are stored, which those in memory have to be."""
    known = repository.branches, repository.tags
    await repository.refresh()
    assert (repository.branches, repository.tags) == known
    return known


async def test_a_branch_is_made_moved_and_deleted(repository, tip):
    await create_branch(repository, "dev", tip)
    assert (await stored(repository))[0] == {"main": tip, "dev": tip}
    await reset_branch(repository, "dev", INITIAL_SNAPSHOT)
    await reset_branch(repository, "main", INITIAL_SNAPSHOT, expected=tip)
    assert set((await stored(repository))[0].values()) == {INITIAL_SNAPSHOT}
    await reset_branch(repository, "main", tip)
    await delete_branch(repository, "dev")
    assert (await stored(repository))[0] == {"main": tip}
    await create_branch(repository, "dev", tip)


async def test_a_tag_is_made_once(repository, tip):
    await create_tag(repository, "v1", tip)
    await create_tag(repository, "v2", INITIAL_SNAPSHOT)
    with pytest.raises(AlreadyExistsError, match="already"):
        await create_tag(repository, "v1", INITIAL_SNAPSHOT)
    await delete_tag(repository, "v1")
    assert (await stored(repository))[1] == {"v2": INITIAL_SNAPSHOT}
    with pytest.raises(AlreadyExistsError, match="never reused"):
        await create_tag(repository, "v1", tip)
    for name in ("v1", "v3"):
        with pytest.raises(NotFoundError, match="no tag"):
            await delete_tag(repository, name)


async def test_what_is_refused_changes_nothing(repository, tip, store):
    await create_branch(repository, "dev", tip)
    objects = [info.key async for info in store.list("")]
    before = await stored(repository)
    refused = [
        (create_branch(repository, "dev", tip), AlreadyExistsError, "there is a branch 'dev'"),
        (create_branch(repository, "new", UNKNOWN), NotFoundError, "no snapshot"),
        (create_tag(repository, "new", UNKNOWN), NotFoundError, "no snapshot"),
        (reset_branch(repository, "dev", UNKNOWN), NotFoundError, "no snapshot"),
        (reset_branch(repository, "new", tip), NotFoundError, "no branch 'new'"),
        (
            reset_branch(repository, "dev", tip, expected=INITIAL_SNAPSHOT),
            ConflictError,
            f"is at {tip}, no longer at {INITIAL_SNAPSHOT}",
        ),
        (delete_branch(repository, "main"), NotAllowedError, "main can not be deleted"),
        (delete_branch(repository, "new"), NotFoundError, "no branch 'new'"),
    ]
    if repository.state.spec_version == 1:
        refused += [
            (make(repository, "a/b", tip), InvalidInputError, "slash")
            for make in (create_branch, create_tag)
        ]
    for attempt, kind, words in refused:
        with pytest.raises(kind, match=words):
            await attempt
    assert await stored(repository) == before
    assert [info.key async for info in store.list("")] == objects


async def test_what_the_repository_forbids(repository, tip):
    if repository.state.spec_version == 1:
        with pytest.raises(NotAllowedError, match="version 1"):
            await set_feature_flag(repository, FeatureFlag.CREATE_TAG, value=False)
        return
    await create_tag(repository, "v1", tip)
    for flag in (FeatureFlag.CREATE_TAG, FeatureFlag.DELETE_TAG):
        await set_feature_flag(repository, flag, value=False)
    for attempt in (create_tag(repository, "v2", tip), delete_tag(repository, "v1")):
        with pytest.raises(NotAllowedError, match="forbids"):
            await attempt
    await set_status(repository, Availability.READ_ONLY, "moving")
    for attempt in (
        create_branch(repository, "dev", tip),
        delete_branch(repository, "dev"),
        reset_branch(repository, "main", INITIAL_SNAPSHOT),
        create_tag(repository, "v2", tip),
        delete_tag(repository, "v1"),
    ):
        with pytest.raises(ReadOnlyError, match="moving"):
            await attempt


@pytest.mark.parametrize("carried_out", [True, False])
async def test_lost_answers_are_found_out(carried_out, repository, tip, store):
    store.lose = [carried_out]
    await create_branch(repository, "dev", tip)
    store.lose = [carried_out]
    await create_tag(repository, "v1", tip)
    store.lose = [carried_out]
    await reset_branch(repository, "dev", INITIAL_SNAPSHOT, expected=tip)
    assert await stored(repository) == ({"main": tip, "dev": INITIAL_SNAPSHOT}, {"v1": tip})


@pytest.mark.parametrize("carried_out", [True, False])
async def test_a_reset_is_not_taken_for_a_commit_of_others(carried_out, repository, tip, store):
    """The answer gets lost, and somebody commits on top of what the branch is at then."""
    inner = store.put

    async def put_then_others(key, data, *, expect=None):
        try:
            return await inner(key, data, expect=expect)
        except OutcomeUnknownError:
            theirs = await another(store)
            assert theirs.base.id == (INITIAL_SNAPSHOT if carried_out else tip)
            await theirs.set_metadata("/theirs", b'{"zarr_format":3,"node_type":"group"}')
            await theirs.commit("on top")
            raise

    store.put, store.lose = put_then_others, [carried_out]
    reset = reset_branch(repository, "main", INITIAL_SNAPSHOT, expected=tip)
    if carried_out:
        await reset
    else:
        with pytest.raises(ConflictError):
            await reset
    tip_now = (await repository.refresh()).branches["main"]
    assert (await repository.snapshot_info(tip_now)).message == "on top"


async def test_a_name_that_others_take_with_a_lost_answer(repository, tip, store):
    inner = store.put

    async def others_first(key, data, *, expect=None):
        if store.lose:
            lost, store.lose = store.lose, []
            theirs = (await another(store)).repository
            await create_tag(theirs, "v1", INITIAL_SNAPSHOT)
            store.lose = lost
        return await inner(key, data, expect=expect)

    store.put, store.lose = others_first, [False]
    with pytest.raises(AlreadyExistsError):
        await create_tag(repository, "v1", tip)
    assert (await repository.refresh()).tags == {"v1": INITIAL_SNAPSHOT}


@pytest.mark.compat
@pytest.mark.parametrize("spec", [1, 2])
async def test_the_official_library_sees_the_same(spec, tmp_path):
    place = icechunk.local_filesystem_storage(str(tmp_path))
    repo = icechunk.Repository.create(place, spec_version=spec)
    with changing(repo, "base", allow_empty=True):
        pass
    tip, first = repo.lookup_branch("main"), str(INITIAL_SNAPSHOT)
    repository = await open_repository(tmp_path)
    names = ODD_NAMES if spec == 1 else [*ODD_NAMES, "a/b", ""]
    for name in names:
        for make in (create_branch, create_tag):
            await make(repository, name, SnapshotId.parse(tip))
        await reset_branch(repository, name, INITIAL_SNAPSHOT)
        assert repo.lookup_branch(name) == first
        assert repo.lookup_tag(name) == tip
        with pytest.raises(icechunk.AlreadyExistsError):
            repo.create_tag(name, tip)
        repo.reset_branch(name, tip, from_snapshot_id=first)
        await repository.refresh()
        assert repository.lookup_branch(name) == SnapshotId.parse(tip)
        await delete_branch(repository, name)
        await delete_tag(repository, name)
        for lookup in (repo.lookup_branch, repo.lookup_tag):
            with pytest.raises(icechunk.RefNotFoundError):
                lookup(name)
        with pytest.raises(icechunk.AlreadyExistsError):
            repo.create_tag(name, tip)
    assert repo.list_branches() == {"main"}
    assert repo.list_tags() == set()
    if spec > 1:
        kinds = {type(update.kind).__name__ for update in repo.ops_log()}
        assert {"BranchReset", "BranchDeleted", "TagDeleted"} <= kinds


@pytest.mark.compat
@pytest.mark.parametrize("spec", [1, 2])
async def test_what_the_official_library_does_is_known(spec, tmp_path):
    repo = icechunk.Repository.create(
        icechunk.local_filesystem_storage(str(tmp_path)), spec_version=spec
    )
    first = repo.lookup_branch("main")
    repository = await open_repository(tmp_path)
    repo.create_tag("v1", first)
    repo.delete_tag("v1")
    repo.create_branch("dev", first)
    with pytest.raises(AlreadyExistsError, match="never reused"):
        await create_tag(repository, "v1", INITIAL_SNAPSHOT)
    with pytest.raises(AlreadyExistsError):
        await create_branch(repository, "dev", INITIAL_SNAPSHOT)
    await delete_branch(repository, "dev")
    assert repo.list_branches() == {"main"}
