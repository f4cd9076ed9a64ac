"""Sockets that killed daemons left behind in the directory where sockets lie."""

import socket
from contextlib import suppress
from pathlib import Path


def clear_leftovers(directory: Path) -> None:
    """Remove the sockets in *directory* whose process is gone, and links that lead nowhere.

    What cannot be removed stays: nothing depends on it.
    """
    with suppress(OSError):
        paths = sorted(directory.glob("*.sock"), key=Path.is_symlink)  # links are last
        for path in paths:
            gone = not path.exists() if path.is_symlink() else _is_left(path)
            if gone:
                path.unlink(missing_ok=True)


def _is_left(path: Path) -> bool:
    # Both are asked: a daemon of another container has no process here, and one that is just
    # starting does not listen yet.
    if not path.stem.isdecimal() or Path("/proc", path.stem).exists():
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.settimeout(0)
        try:
            link.connect(str(path))
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return False
