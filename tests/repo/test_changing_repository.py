"""A repository changes its ways while a session is open."""

from datetime import UTC, datetime

import icechunk
import pytest

from tests.compat.documents import GROUP, put
from tests.repo.conftest import LINE
from tests.repo.driving import (
    official,
    open_session,
    session_keys,
)
from zfuse.errors import (
    ConflictError,
    NotAllowedError,
    NotFoundError,
    ReadOnlyError,
)
from zfuse.repo import commit, publish

both = pytest.mark.parametrize("spec_version", [1, 2])


def repo_in(tmp_path, spec_version=2):
    place = icechunk.local_filesystem_storage(str(tmp_path))
    repo = icechunk.Repository.create(place, spec_version=spec_version)
    edited = repo.writable_session("main")
    put(edited.store, "a/zarr.json", LINE)
    edited.commit("base")
    return repo


@pytest.mark.compat
@both
async def test_a_branch_that_is_gone_or_reset(spec_version, tmp_path):
    repo = repo_in(tmp_path, spec_version)
    first = repo.lookup_branch("main")
    repo.create_branch("dev", first)
    session = await open_session(tmp_path, "dev")
    await session.set_chunk("/a", (0,), b"x")
    await session.commit("on dev")
    await session.set_chunk("/a", (1,), b"y")
    repo.reset_branch("dev", first)
    with pytest.raises(ConflictError, match="reset"):
        await session.commit("nowhere")
    repo.delete_branch("dev")
    with pytest.raises(NotFoundError):
        await session.commit("nowhere")
    assert session.has_changes
    repo.create_branch("dev", str(session.base.id))
    assert await session.commit("back") is not None
    with pytest.raises(NotFoundError):
        await open_session(tmp_path, "other")


@pytest.mark.compat
async def test_a_repository_that_is_read_only(tmp_path):
    repo = repo_in(tmp_path)
    session = await open_session(tmp_path)
    await session.set_chunk("/a", (0,), b"x")
    status = icechunk.RepoStatus(
        availability=icechunk.RepoAvailability.read_only, limited_availability_reason="moving"
    )
    repo.set_status(status)
    for attempt in (session.commit("no"), session.amend("no"), session.branch_off("new")):
        with pytest.raises(ReadOnlyError, match="moving"):
            await attempt
    assert session.has_changes
    with pytest.raises(ReadOnlyError):
        await open_session(tmp_path)
    assert set(repo.list_branches()) == {"main"}
    repo.set_status(icechunk.RepoStatus(availability=icechunk.RepoAvailability.online))
    tip = await session.commit("taken")
    assert official(tmp_path).lookup_branch("main") == str(tip)


@pytest.mark.compat
async def test_a_repository_that_forbids_moves(tmp_path):
    repo = repo_in(tmp_path)
    before = await open_session(tmp_path)
    await before.move("/a", "/b")
    repo.set_feature_flag("move_node", False)
    with pytest.raises(NotAllowedError, match="move_node"):
        await before.commit("too late")
    session = await open_session(tmp_path)
    with pytest.raises(NotAllowedError, match="move_node"):
        await session.move("/a", "/b")
    await session.set_metadata("/b", LINE)
    await session.commit("something else")
    repo.set_feature_flag("move_node", True)
    await session.repository.refresh()
    await session.move("/a", "/c")
    await session.commit("allowed again")


@pytest.mark.compat
@both
async def test_history_expires_under_a_session(spec_version, tmp_path):
    repo = repo_in(tmp_path, spec_version)
    session = await open_session(tmp_path)
    await session.set_chunk("/a", (0,), b"ours")
    for n in (1, 2):
        edited = repo.writable_session("main")
        put(edited.store, f"a/c/{n}", b"theirs")
        edited.commit(f"theirs {n}")
    repo.expire_snapshots(datetime.now(UTC))
    if spec_version == 1:  # which keeps no trace of what expired
        with pytest.raises(ConflictError):
            await session.commit("mine")
        return
    rival = await open_session(tmp_path)
    await session.commit("mine")
    assert session.node("/a") is not None
    assert {"a/c/0", "a/c/1", "a/c/2"} <= set(await session_keys(session))
    # The logs of what expired are gone once nobody names them any more.
    edited = official(tmp_path).writable_session("main")
    put(edited.store, "a/c/3", b"theirs")
    edited.commit("theirs 3")
    (tmp_path / "transactions" / str(session.base.id)).unlink()
    await rival.set_metadata("/mine", GROUP)
    with pytest.raises(ConflictError, match="forgotten"):
        await rival.commit("not mergeable")
    assert rival.has_changes


async def test_time_goes_on_though_clocks_go_back(session, store, monkeypatch):
    for module in (commit, publish):
        monkeypatch.setattr(module, "now_us", lambda: 1_000_000)
    store.late_s = -(session.base.flushed_at // 1_000_000)
    await session.set_chunk("/a", (1,), b"x")
    before = session.base.flushed_at
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(commit, "_MAX_CLOCK_DIFFERENCE_S", 10**12)
        await session.commit("later")
    assert session.base.flushed_at == before + 1
    info = session.repository.state.info
    if info is not None:
        assert info.latest_updates[0].updated_at > info.latest_updates[1].updated_at
