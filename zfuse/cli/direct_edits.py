"""Moving and copying nodes of a repository that is not mounted: one commit each."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import trio

from zfuse.cli import output
from zfuse.cli.target import Target, find_target, locate, opened
from zfuse.errors import InvalidInputError, NotAllowedError
from zfuse.format.snapshot import ArrayNode, Node
from zfuse.repo.ref import RefKind
from zfuse.repo.session import Session

_GROUP: Final = b'{"zarr_format":3,"node_type":"group","attributes":{}}'

type Edit = Callable[[Session, str, str], Awaitable[list[Node]]]


@dataclass(frozen=True, slots=True)
class DirectEdit:
    """What becomes of the node SOURCE of REPO, and how the commit is called."""

    source: str
    target: str
    message: str | None


def split_places(places: Sequence[str]) -> tuple[str | None, str, str]:
    """Tell the words of ``[REPO] SOURCE TARGET`` apart; REPO is None for paths in a mount.

    Raises:
        InvalidInputError: it is not two or three words.
    """
    match places:
        case (source, target):
            return None, source, target
        case (repo, source, target):
            return repo, source, target
        case _:
            raise InvalidInputError("say what goes where: SOURCE TARGET, or REPO SOURCE TARGET")


def edit_repository(
    repo: str, edit: DirectEdit, act: Edit, flags: Mapping[str, Any]
) -> dict[str, Any]:
    """Let *act* do *edit* on a branch of *repo* and commit it; return what to tell.

    Raises:
        AlreadyExistsError, NotFoundError: there is something at the target, nothing at the source.
        InvalidInputError: there is no message.
        NotAllowedError: *flags* name a version that is fixed, or *repo* is a mount.
    """
    if not (edit.message or "").strip():
        raise InvalidInputError('say what the commit does with -m "..."')
    target = find_target(repo, flags)
    if target.mountpoint is not None:
        raise NotAllowedError(f"{repo} is mounted; give both paths there, then: zfuse sync")
    return trio.run(_edit, target, edit, act)


async def _edit(target: Target, edit: DirectEdit, act: Edit) -> dict[str, Any]:
    async with opened(target) as repository:
        place = await locate(repository, target, None)
        if place.ref.kind is not RefKind.BRANCH:
            raise NotAllowedError(f"{place.ref} is fixed; only branches change")
        source, destination = ("/" + each.strip("/") for each in (edit.source, edit.target))
        if source == "/":
            raise InvalidInputError("the root of a branch stays where it is")
        session = await Session.open(repository, place.ref.name)
        await _make_groups(session, destination)
        await act(session, source, destination)
        snapshot_id = await session.commit(str(edit.message))
    return {
        "from": source,
        "to": destination,
        "branch": place.ref.name,
        "snapshot": None if snapshot_id is None else str(snapshot_id),
    }


async def _make_groups(session: Session, path: str) -> None:
    """Make the groups that *path* lies in, as zarr does: what is in none is found by nobody.

    Raises:
        NotAllowedError: one of them would be where an array is.
    """
    names = path.strip("/").split("/")
    for depth in range(1, len(names)):
        above = "/" + "/".join(names[:depth])
        match session.node(above):
            case None:
                await session.set_metadata(above, _GROUP)
            case ArrayNode():
                raise NotAllowedError(f"{above} is an array, and holds no nodes; choose a group")


def print_edit(told: Mapping[str, Any]) -> None:
    """Print what ``edit_repository`` returned."""
    print(f"branch {output.plain(told['branch'])} is at {told['snapshot']} now")
