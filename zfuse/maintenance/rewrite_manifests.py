"""Writing the manifests of a branch anew, split as the settings of the repository say now."""

from collections.abc import Mapping
from typing import Any, Final, Literal

from zfuse.errors import BusyError, ConflictError, InvalidInputError
from zfuse.format.ids import SnapshotId
from zfuse.repo.commit import CommitRequest, publish_commit, store_rewriting
from zfuse.repo.new_ids import new_id
from zfuse.repo.repository import Repository

CommitMethod = Literal["new_commit", "amend"]

_ATTEMPTS: Final = 10
_ONE_MANIFEST: Final = {
    "split_sizes": [
        [{"path_matches": {"regex": ".*"}}, [{"condition": "Any", "num_chunks": 2**32 - 1}]]
    ]
}
_RESERVED: Final = "__icechunk"


async def rewrite_manifests(
    repository: Repository,
    message: str,
    *,
    branch: str,
    metadata: Mapping[str, Any] | None = None,
    commit_method: CommitMethod = "new_commit",
) -> SnapshotId:
    """Commit to *branch* what it has, in new manifests; chunks stay where they are.

    If others move the branch meanwhile, what it has then is written anew. Returns the new
    snapshot; its metadata are *metadata* and how the manifests are split.

    Raises:
        BusyError: others move the branch all the time.
        InvalidInputError: *commit_method* is no such method.
        NotAllowedError: the first snapshot, or one of version 1, is to be amended.
        NotFoundError: there is no such branch.
        ReadOnlyError: the repository takes no changes.
        OutcomeUnknownError: whether that succeeded can not be found out now.
    """
    if commit_method not in {"new_commit", "amend"}:
        raise InvalidInputError(f"{commit_method!r} is neither new_commit nor amend")
    for _ in range(_ATTEMPTS):
        base = await repository.assets.fetch_snapshot(repository.lookup_branch(branch))
        request = CommitRequest(
            message,
            _with_splitting(metadata or {}, repository.state.config.raw),
            new_id(SnapshotId),
            amends=commit_method == "amend",
        )
        stored = await store_rewriting(repository, base, request)
        try:
            await publish_commit(repository, branch, base, stored)
        except ConflictError:
            await repository.refresh()
        else:
            return stored.snapshot.id
    raise BusyError(f"others commit to the branch {branch!r} all the time; try again when it rests")


def _with_splitting(metadata: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    manifest = config.get("manifest")
    splitting = manifest.get("splitting") if isinstance(manifest, Mapping) else None
    told = metadata.get(_RESERVED)
    own = told if isinstance(told, Mapping) else {}
    return {**metadata, _RESERVED: {**own, "splitting_config": splitting or _ONE_MANIFEST}}
