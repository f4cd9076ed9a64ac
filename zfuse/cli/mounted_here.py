"""What the mounts of this user, or of all if that is root, say of themselves."""

import os
from collections.abc import Iterator, Mapping
from typing import Any, Final

from zfuse.daemon.control import call_mount
from zfuse.daemon.mountinfo import MountPoint, zfuse_mounts
from zfuse.errors import BusyError, ZfuseError

_ASK_S: Final = 10.0


def settings_of_mounts() -> Iterator[tuple[MountPoint, Mapping[str, Any]]]:
    """Yield the mounts whose daemon answers, with their settings."""
    for mount in zfuse_mounts():
        if os.geteuid() not in {0, mount.user_id}:
            continue
        try:
            yield mount, call_mount(mount, "config", timeout_s=_ASK_S)
        except ZfuseError:
            continue


def refuse_while_mounted(repository: str) -> None:
    """Make sure that no mount can write to the repository with the URL *repository*.

    Raises:
        BusyError: one can.
    """
    for mount, settings in settings_of_mounts():
        if settings["rw"] and is_same_repository(settings["repository"], repository):
            raise BusyError(
                f"it is mounted at {mount.path} to be written to; zfuse umount {mount.path} first"
            )


def is_same_repository(one: str, other: str) -> bool:
    """Tell whether two URLs or local paths mean one repository."""
    if "://" in one or "://" in other:
        return one == other
    return os.path.realpath(one) == os.path.realpath(other)
