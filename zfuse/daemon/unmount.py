"""Ending a mount from outside its daemon."""

import os
import select
import shutil
import socket
import struct
import subprocess
from pathlib import Path
from typing import Final

from zfuse.daemon.control import socket_path
from zfuse.daemon.mountinfo import MountPoint, all_mounts, zfuse_mounts
from zfuse.daemon.users import users_of
from zfuse.errors import BusyError, NotAllowedError, NotMountedError, ZfuseError

_CREDENTIALS: Final = struct.Struct("3i")  # pid, uid, gid


def mount_at(directory: Path) -> MountPoint:
    """Return the zfuse mount whose mount point is *directory*.

    Raises:
        NotMountedError: there is none.
    """
    spelled = Path(os.path.abspath(directory))  # resolve() would touch a dead mount
    wanted = {spelled, spelled.parent.resolve() / spelled.name}
    for mount in reversed(zfuse_mounts()):
        if mount.path in wanted:
            return mount
    raise NotMountedError(f"nothing of zfuse is mounted at {directory}; zfuse list shows what is")


def daemon_of(mount: MountPoint) -> int | None:
    """Return the process that serves *mount*, also where it hangs; None if it is gone."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        try:
            link.connect(str(socket_path(mount)))
        except OSError:
            return None
        # unix(7): of a connection to a listener these are those of who called listen().
        raw = link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(raw)[0])


def unmount(mount: MountPoint, *, lazy: bool) -> None:
    """Take *mount* out of the tree; a lazy one ends when its last user lets go.

    Raises:
        BusyError: some process uses it.
        NotAllowedError: it is not this user's.
    """
    done = subprocess.run(
        _command(mount.path, lazy=lazy), capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        return
    said = done.stderr.strip()
    if "busy" in said.lower():
        raise BusyError(_why_busy(mount.path))
    if os.geteuid() not in {0, mount.user_id}:
        raise NotAllowedError(
            f"{mount.path} was mounted by user {mount.user_id}; unmount it as that user or as root"
        )
    raise ZfuseError(f"cannot unmount {mount.path}: {said}")


def _command(path: Path, *, lazy: bool) -> list[str]:
    if helper := shutil.which("fusermount3"):
        return [helper, "-uz" if lazy else "-u", str(path)]
    return ["umount", *(["-l"] if lazy else []), str(path)]


def _why_busy(directory: Path) -> str:
    inner = [
        m.path for m in all_mounts() if m.path != directory and m.path.is_relative_to(directory)
    ]
    users = [str(user) for user in users_of(directory)]
    causes = [f"another mount at {path}" for path in inner] + users
    shown = ", ".join(causes[:5]) + (f" and {len(causes) - 5} more" if len(causes) > 5 else "")
    who = f"used by {shown}" if shown else "used by a process that you may not see"
    return f"{directory} is busy: {who}; end that first, or unmount with --force"


def wait_for_end(pid: int, seconds: float) -> bool:
    """Wait until the process *pid* has ended; tell whether it has after *seconds* at most."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(seconds * 1000))
    finally:
        os.close(descriptor)
