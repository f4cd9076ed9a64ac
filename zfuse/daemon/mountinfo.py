"""What the kernel says is mounted, without touching any mount: a dead one blocks who does.

Format: proc_pid_mountinfo(5).
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from zfuse.errors import NotMountedError

FSTYPE: Final = "fuse.zfuse"
_MOUNTINFO: Final = Path("/proc/self/mountinfo")
_OCTAL: Final = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class MountPoint:
    """A mount: where, of which device (``0:57``), of what source and type, for whom.

    ``user_id`` is the user that a FUSE mount belongs to, None for other types.
    """

    path: Path
    device: str
    source: str
    fstype: str
    user_id: int | None

    @property
    def device_number(self) -> int:
        """The device as ``st_dev`` gives it."""
        major, _, minor = self.device.partition(":")
        return os.makedev(int(major), int(minor))


def parse_mountinfo(text: str) -> list[MountPoint]:
    """Return the mounts that a mountinfo file lists, oldest first."""
    found: list[MountPoint] = []
    for line in text.split("\n"):  # not splitlines(): names may hold U+2028
        left, _, right = line.partition(" - ")
        try:
            device, path = left.split(" ")[2], left.split(" ")[4]
            fstype, source, options = right.split(" ")[:3]
        except (IndexError, ValueError):
            continue
        user = re.search(r"(?:^|,)user_id=(\d+)", options)
        found.append(
            MountPoint(
                Path(_unescape(path)),
                device,
                _unescape(source),
                fstype,
                int(user[1]) if user else None,
            )
        )
    return found


def all_mounts() -> list[MountPoint]:
    """Return every mount that this process can see."""
    return parse_mountinfo(_MOUNTINFO.read_text(errors="surrogateescape"))


def zfuse_mounts() -> list[MountPoint]:
    """Return the mounts of zfuse, dead ones included."""
    return [mount for mount in all_mounts() if mount.fstype == FSTYPE]


def find_mount(path: Path) -> MountPoint:
    """Return the zfuse mount that *path* is in.

    Raises:
        NotMountedError: it is in none.
    """
    mounts = zfuse_mounts()
    spelled = Path(os.path.abspath(path))
    found = innermost(spelled, mounts) or innermost(path.resolve(), mounts)
    if found is None:
        raise NotMountedError(f"{path} is not inside a zfuse mount; zfuse list shows what is")
    return found


def names_inside(path: Path, mount: MountPoint) -> tuple[str, ...]:
    """Return the names between the root of *mount* and *path*, for which ``find_mount`` found it.

    Links outside of the mount are followed if they lead there.
    """
    place = Path(os.path.abspath(path))
    if not place.is_relative_to(mount.path):
        place = path.resolve()
    return place.relative_to(mount.path).parts


def innermost(path: Path, mounts: Sequence[MountPoint]) -> MountPoint | None:
    """Return the mount whose path is the longest beginning of *path*, the newest of equals."""
    holding = [m for m in mounts if path.is_relative_to(m.path)]
    return max(reversed(holding), key=lambda m: len(m.path.parts), default=None)


def _unescape(text: str) -> str:
    return _OCTAL.sub(lambda octal: chr(int(octal[1], 8)), text)
