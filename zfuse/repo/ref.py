"""Which version of a repository somebody means: a branch, tag, snapshot, or moment."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from zfuse.errors import InvalidInputError, NotFoundError
from zfuse.format.ids import SnapshotId
from zfuse.repo.repository import Repository, fetch_state


class RefKind(enum.StrEnum):
    """The four ways to name a version; the values are the directory names in a mount."""

    BRANCH = "branch"
    TAG = "tag"
    SNAPSHOT = "snapshot"
    TIME = "time"


@dataclass(frozen=True, slots=True)
class Ref:
    """A named version.

    ``name`` is the branch, the tag, the snapshot's id, or a time in RFC 3339.
    """

    kind: RefKind
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"

    @property
    def is_immutable(self) -> bool:
        """Whether this names the same snapshot for ever."""
        return self.kind is not RefKind.BRANCH


async def resolve(repository: Repository, ref: Ref) -> SnapshotId:
    """Return the snapshot that *ref* names, as of the repository's last refresh.

    A moment means the branch main as it was then; a moment that the repository's state is
    older than makes the state be read anew, and so does a snapshot that it does not list.

    Raises:
        NotFoundError: there is no such ref.
        InvalidInputError: *ref* is no id, or no time, or a time that is still to come.
    """
    match ref.kind:
        case RefKind.BRANCH:
            return repository.lookup_branch(ref.name)
        case RefKind.TAG:
            return repository.lookup_tag(ref.name)
        case RefKind.SNAPSHOT:
            snapshot_id = SnapshotId.parse(ref.name)
            is_listed = repository.state.info is not None
            if await repository.has_snapshot(snapshot_id) or (
                is_listed and await (await _as_of_now(repository)).has_snapshot(snapshot_id)
            ):
                return snapshot_id
            raise NotFoundError(
                f"the repository has no snapshot {ref.name}; zfuse log shows the ids"
            )
        case RefKind.TIME:
            moment = parse_time(ref.name)
            if moment > datetime.now(UTC).timestamp() * 1e6:
                raise InvalidInputError(f"{ref.name} is still to come; name a time in the past")
            if moment > repository.state.fetched_at:
                repository = await _as_of_now(repository)
            return (await repository.snapshot_as_of("main", moment)).id


async def _as_of_now(repository: Repository) -> Repository:
    """Return the repository with its newest state.

    Aside: only a refresh may move what the branches of *repository* itself show.
    """
    state = await fetch_state(repository.storage)
    return Repository(repository.storage, repository.assets, state)


def parse_time(text: str) -> int:
    """Return the moment that *text* (RFC 3339, or a date) names, in microseconds since 1970.

    Without a zone it is UTC.

    Raises:
        InvalidInputError: *text* is no time.
    """
    try:
        moment = datetime.fromisoformat(text)
        moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):  # the latter where UTC has no such year
        raise InvalidInputError(
            f"{text!r} is not a time; write it as 2026-08-20T09:00:00Z or 2026-08-20"
        ) from None
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    delta = moment - epoch
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


async def parse_ref(repository: Repository, text: str) -> Ref:
    """Interpret what a person typed: ``branch/NAME``, ``tag/NAME``, an id, or a bare name.

    A bare name must name one thing: a branch and a tag of the same name are told apart by
    writing the kind in front.

    Raises:
        NotFoundError: nothing has that name.
        InvalidInputError: more than one thing has it.
    """
    kind, slash, name = text.partition("/")
    if slash and kind in set(RefKind):
        return Ref(RefKind(kind), name)
    found = [Ref(kind, text) for kind, names in _named(repository).items() if text in names]
    if not found:
        try:
            ref = Ref(RefKind.SNAPSHOT, str(SnapshotId.parse(text)))
            await resolve(repository, ref)
        except (InvalidInputError, NotFoundError):
            raise NotFoundError(
                f"{text!r} is no branch, tag or snapshot; zfuse show lists what there is"
            ) from None
        return ref
    if len(found) > 1:
        raise InvalidInputError(
            f"{text!r} is both a branch and a tag; write branch/{text} or tag/{text}"
        )
    return found[0]


def _named(repository: Repository) -> Mapping[RefKind, Mapping[str, SnapshotId]]:
    return {RefKind.BRANCH: repository.branches, RefKind.TAG: repository.tags}
