"""What the mounts of this user, or of all if that is root, say of themselves."""

import os
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import unquote

from zfuse.daemon.control import call_mount
from zfuse.daemon.mountinfo import MountPoint, zfuse_mounts
from zfuse.errors import BusyError, ZfuseError
from zfuse.format.ids import SnapshotId

_ASK_S: Final = 10.0


def settings_of_mounts(repository: str) -> Iterator[tuple[MountPoint, Mapping[str, Any]]]:
    """Yield the mounts whose daemon answers, with their settings.

    Raises:
        BusyError: one of the repository with the URL *repository* does not answer.
    """
    return _ask_mounts("config", repository)


def shown_snapshots(repository: str) -> Iterator[SnapshotId]:
    """Yield the snapshots of the repository with the URL *repository* that mounts show.

    Raises:
        BusyError: one of them does not answer.
    """
    for _, status in _ask_mounts("status", repository):
        if is_same_repository(status["repository"], repository):
            yield from (SnapshotId.parse(tree["snapshot"]) for tree in status["trees"])


def _ask_mounts(question: str, repository: str) -> Iterator[tuple[MountPoint, Mapping[str, Any]]]:
    for mount in zfuse_mounts():
        if os.geteuid() not in {0, mount.user_id}:
            continue
        try:
            yield mount, call_mount(mount, question, timeout_s=_ASK_S)
        except ZfuseError as exc:
            if is_same_repository(unquote(mount.source), repository):
                raise BusyError(
                    f"the mount {mount.path} of this repository does not answer, so what it needs"
                    f" is not known: {exc}"
                ) from exc


def refuse_while_mounted(repository: str) -> None:
    """Make sure that no mount can write to the repository with the URL *repository*.

    Raises:
        BusyError: one can, or does not answer.
    """
    for mount, settings in settings_of_mounts(repository):
        if settings["rw"] and is_same_repository(settings["repository"], repository):
            raise BusyError(
                f"it is mounted at {mount.path} to be written to; zfuse umount {mount.path} first"
            )


def is_same_repository(one: str, other: str) -> bool:
    """Tell whether two URLs or local paths mean one repository."""
    if "://" in one or "://" in other:
        return one == other
    return os.path.realpath(one) == os.path.realpath(other)
