"""REPO|PATH: what a command is to look at, be it a repository or something inside a mount."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from zfuse.cli.layers import all_layers, layer_of
from zfuse.daemon.assemble import open_repository
from zfuse.daemon.control import call_mount
from zfuse.daemon.mountinfo import find_mount, names_inside
from zfuse.daemon.settings import STORAGE_NAMES, Layer, chosen_ref, merge, mount_settings
from zfuse.errors import InvalidInputError, NotFoundError, NotMountedError
from zfuse.format.ids import SnapshotId
from zfuse.fs.names import decode_name
from zfuse.repo.ref import Ref, RefKind, parse_ref, resolve
from zfuse.repo.repository import Repository
from zfuse.repo.view import HierarchyView, join

_ASK_S: Final = 10.0
MAIN: Final = Ref(RefKind.BRANCH, "main")


@dataclass(frozen=True, slots=True)
class Target:
    """A repository, the settings to open it with, and what of it was pointed at.

    ``inside`` are the names between the root of a mount and the path that was given, empty
    for a repository; ``mounted`` is the one ref that the mount shows, None if it shows all;
    ``flagged`` tells that the command line itself names a ref. ``mountpoint`` is where the
    mount is, None for a repository.
    """

    location: str
    layer: Layer
    inside: tuple[str, ...] = ()
    mounted: Ref | None = None
    flagged: bool = False
    mountpoint: Path | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """A path in one version of a repository; ``path`` is absolute, ``/`` is the root."""

    repository: Repository
    ref: Ref
    view: HierarchyView
    path: str

    @property
    def snapshot_id(self) -> SnapshotId:
        """The snapshot that the ref names."""
        return self.view.snapshot.id


def is_target(text: str) -> bool:
    """Tell whether *text* can be a REPO|PATH: a URL, or a path that is there."""
    return "://" in text or Path(text).exists()


def split_arguments(arguments: Sequence[str]) -> tuple[str | None, str | None]:
    """Tell REPO|PATH from REF in ``[REPO|PATH] [REF]``; None for what is not given.

    A single word is REPO|PATH if it can be one, else a REF.

    Raises:
        InvalidInputError: there are more than two.
    """
    match list(arguments):
        case []:
            return None, None
        case [word]:
            return (word, None) if is_target(word) else (None, word)
        case [target, ref]:
            return target, ref
        case _:
            raise InvalidInputError(f"too many arguments: {' '.join(arguments)}")


def find_target(text: str | None, flags: Mapping[str, Any]) -> Target:
    """Interpret REPO|PATH; None is the current directory.

    A path inside a mount means the mount's repository, which is read anew and by this
    process: a mount that hangs can be looked into.

    Raises:
        NotMountedError: nothing is given and this is no mount, or the mount's daemon is gone.
        InvalidInputError: *text* is empty.
    """
    given = layer_of(flags)
    layer, flagged = all_layers(given), chosen_ref(given) is not None
    if text == "":
        raise InvalidInputError("an empty text is no REPO|PATH")
    if text is not None and "://" in text:
        return Target(text, layer, flagged=flagged)
    path = Path(text or ".")
    try:
        mount = find_mount(path)
    except NotMountedError:
        if text is None:
            raise
        return Target(str(path.absolute()), layer, flagged=flagged)
    settings = call_mount(mount, "config", timeout_s=_ASK_S)
    inside = names_inside(path, mount)
    ref = (
        Ref(RefKind(settings["ref"]["kind"]), settings["ref"]["name"]) if settings["ref"] else None
    )
    merged = merge([layer, _as_layer(settings)])
    return Target(settings["repository"], merged, inside, ref, flagged, mount.path)


def find_target_and_ref(
    arguments: Sequence[str], flags: Mapping[str, Any]
) -> tuple[Target, str | None]:
    """Interpret ``[REPO|PATH] [REF]``; see ``split_arguments`` and ``find_target``.

    Raises:
        NotMountedError: a single word is neither, or nothing is given and this is no mount.
    """
    text, ref = split_arguments(arguments)
    try:
        return find_target(text, flags), ref
    except NotMountedError as exc:
        if text is not None or ref is None:
            raise
        raise NotMountedError(
            f"{ref!r} is no path that is there, so it would be a ref of the mount of this"
            f" directory, but {Path.cwd()} is not inside a zfuse mount; name the repository,"
            f" or what is in a mount: zfuse COMMAND REPO {ref}"
        ) from exc


def points_at_version(target: Target, ref: str | None) -> bool:
    """Tell whether a REF, a flag or a path inside a mount names a version.

    Settings of the environment and of files, which say what to look at by default, do not.
    """
    named = ref is not None or target.flagged or target.mounted is not None
    return named or bool(target.inside)


def _as_layer(settings: Mapping[str, Any]) -> Layer:
    """Return the settings of a mount that also say how to read its repository."""
    layer = {
        name.replace("_", "-"): value
        for name, value in settings["storage"].items()
        if name.replace("_", "-") in STORAGE_NAMES and value
    }
    allowed = [
        entry["prefix"] + (f"={entry['credentials']}" if entry["credentials"] else "")
        for entry in settings["allow_virtual"]
    ]
    return {**layer, "deadline": settings["deadline_s"], "allow-virtual": allowed}


@asynccontextmanager
async def opened(target: Target) -> AsyncIterator[Repository]:
    """Open the repository of *target* for the duration of the block."""
    settings = mount_settings(target.location, {**target.layer, "rw": False})
    async with open_repository(settings) as repository:
        yield repository


async def locate(repository: Repository, target: Target, node: str | None) -> Place:
    """Find the version and the path that *target* points at, and *node* below it.

    Without any ref it is the branch main.

    Raises:
        NotFoundError: there is no such ref.
        InvalidInputError: a path of a mount that belongs to no version (``DIR/branch``).
    """
    ref, names = _split(repository, target)
    ref = chosen_ref(target.layer) or ref
    view = await repository.assets.fetch_hierarchy(await resolve(repository, ref))
    path = "/"
    for name in names:
        path = join(path, decode_name(name, view.children(path)) or name)
    for name in (node or "").strip("/").split("/"):
        path = join(path, name) if name else path
    return Place(repository, ref, view, path)


async def locate_snapshot(repository: Repository, target: Target, text: str | None) -> SnapshotId:
    """Return the snapshot that the REF *text* names; None means what *target* points at.

    Raises:
        NotFoundError: there is no such ref.
    """
    if text is None:
        ref = chosen_ref(target.layer) or _split(repository, target)[0]
    else:
        ref = await parse_ref(repository, text)
    return await resolve(repository, ref)


def _split(repository: Repository, target: Target) -> tuple[Ref, tuple[str, ...]]:
    """Return the ref that a path inside a mount belongs to, and the names below its root."""
    if target.mounted is not None:
        return target.mounted, target.inside
    match target.inside:
        case ():
            return MAIN, ()
        case (kind, name, *rest) if kind in set(RefKind):
            known = repository.branches if kind == RefKind.BRANCH else repository.tags
            return Ref(RefKind(kind), decode_name(name, known) or name), tuple(rest)
        case _:
            raise InvalidInputError(
                f"{'/'.join(target.inside)} is no version of the repository;"
                " point below branch/NAME, tag/NAME, snapshot/ID or time/TIME"
            )


def require_directory(place: Place) -> None:
    """Raise NotFoundError unless there is a group or an array at *place*."""
    if not place.view.is_directory(place.path):
        raise NotFoundError(f"{place.ref} has no {place.path}; zfuse tree shows what it has")
