"""May a repository be mounted at a directory? Asked before anything is started."""

import errno
import os
import shutil
import stat
from pathlib import Path
from typing import Final

from zfuse.daemon.mountinfo import FSTYPE, all_mounts
from zfuse.daemon.unmount import daemon_of
from zfuse.errors import BusyError, InvalidInputError
from zfuse.storage.open import LocalLocation, parse_location

_DEVICE: Final = Path("/dev/fuse")
_FUSE_CONF: Final = Path("/etc/fuse.conf")


def check_fuse(*, allow_other: bool, device: Path = _DEVICE, fuse_conf: Path = _FUSE_CONF) -> None:
    """Raise InvalidInputError unless this user can mount with FUSE here."""
    if not device.exists():
        raise InvalidInputError(
            f"there is no {device}: load the module (modprobe fuse), or start the container"
            " with --device /dev/fuse"
        )
    if os.geteuid() == 0:
        return
    if not os.access(device, os.R_OK | os.W_OK):
        raise InvalidInputError(
            f"{device} may not be opened by you: ask for membership of its group"
        )
    if shutil.which("fusermount3") is None:
        raise InvalidInputError("fusermount3 is missing: install the package fuse3")
    if allow_other and not allows_others(fuse_conf):
        raise InvalidInputError(
            f"allow-other needs a line user_allow_other in {fuse_conf}, or a mount by root"
        )


def allows_others(fuse_conf: Path = _FUSE_CONF) -> bool:
    """Tell whether users other than root may mount with ``allow_other``."""
    try:
        lines = fuse_conf.read_text().splitlines()
    except OSError:
        return False
    return "user_allow_other" in (line.strip() for line in lines)


def check_mount_point(directory: Path, repository: str) -> None:
    """Raise unless *repository* can be mounted at *directory*, an absolute path.

    Raises:
        InvalidInputError: it is no empty directory, or it and the repository are inside
            each other.
        BusyError: something is mounted there.
    """
    _check_free(directory)
    try:
        mode = directory.stat().st_mode
    except OSError as exc:
        raise InvalidInputError(_why_no_directory(directory, exc)) from exc
    if not stat.S_ISDIR(mode):
        raise InvalidInputError(f"{directory} is not a directory; mount at a directory")
    _check_apart(directory.resolve(), repository)
    try:
        occupant = next(directory.iterdir(), None)
    except PermissionError as exc:
        raise InvalidInputError(f"{directory} may not be read by you; choose another") from exc
    if occupant is not None:
        raise InvalidInputError(
            f"{directory} is not empty (it has {occupant.name!r}); mount at an empty directory"
        )


def check_journal(journal: Path, directory: Path, repository: str) -> None:
    """Raise InvalidInputError if sessions of *repository* can not be kept in *journal*.

    That is below *directory*, where the mount would wait for itself, or in the repository.
    """
    place, location = journal.resolve(), parse_location(repository)
    if place.is_relative_to(directory.resolve()):
        raise InvalidInputError(
            f"the journal {journal} would be inside the mount; keep it elsewhere: --journal DIR"
        )
    if isinstance(location, LocalLocation) and place.is_relative_to(location.path.resolve()):
        raise InvalidInputError(
            f"the journal {journal} is inside the repository; keep it elsewhere: --journal DIR"
        )


def _why_no_directory(directory: Path, exc: OSError) -> str:
    if exc.errno == errno.ENOENT:
        return f"there is no {directory}; make it with: mkdir -p {directory}"
    return f"cannot mount at {directory}: {exc.strerror}"


def _check_free(directory: Path) -> None:
    spelled = {directory, directory.parent.resolve() / directory.name}
    here = [m for m in all_mounts() if m.path in spelled and m.fstype.startswith("fuse")]
    if not here:
        return
    if here[-1].fstype == FSTYPE and daemon_of(here[-1]) is None:
        raise BusyError(
            f"a mount of {here[-1].source} is at {directory}, but its daemon is gone; clear it"
            f" away with: zfuse umount {directory}"
        )
    if here[-1].fstype == FSTYPE:
        raise BusyError(
            f"{here[-1].source} is mounted at {directory} already; end that mount with:"
            f" zfuse umount {directory}"
        )
    raise BusyError(f"{directory} is a mount point already ({here[-1].fstype}); choose another")


def _check_apart(directory: Path, repository: str) -> None:
    location = parse_location(repository)
    if not isinstance(location, LocalLocation):
        return
    place = location.path.resolve()
    if directory.is_relative_to(place):
        raise InvalidInputError(f"{directory} is inside the repository {place}; mount elsewhere")
    if place.is_relative_to(directory):
        raise InvalidInputError(
            f"the repository {place} is inside {directory}, which the mount would hide;"
            " mount elsewhere"
        )
