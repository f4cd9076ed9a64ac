"""Which processes keep a mount busy, found without touching the mount."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_LINKS: Final = {"cwd": "working directory", "root": "root directory", "exe": "program"}


@dataclass(frozen=True, slots=True)
class User:
    """A process, and what it has in the mount (``working directory``, ``open file PATH``)."""

    pid: int
    name: str
    what: str

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid}, {self.what})"


def users_of(directory: Path, proc: Path = Path("/proc")) -> list[User]:
    """Return the processes that use something below *directory*, one entry each.

    Processes of other users are seen by root alone; this one is left out.
    """
    found: list[User] = []
    for process in sorted(proc.glob("[0-9]*"), key=lambda p: int(p.name)):
        if int(process.name) == os.getpid():
            continue
        what = next(_uses(process, str(directory)), None)
        if what is not None:
            found.append(User(int(process.name), _name(process), what))
    return found


def _uses(process: Path, directory: str) -> Iterator[str]:
    # Links of /proc are read as text: following one would ask the mount.
    for link, meaning in _LINKS.items():
        if _inside(_target(process / link), directory):
            yield meaning
    with suppress(OSError):
        for descriptor in (process / "fd").iterdir():
            target = _target(descriptor)
            if _inside(target, directory):
                yield f"open file {target}"
    with suppress(OSError):
        for line in (process / "maps").read_text(errors="surrogateescape").splitlines():
            target = line[73:].strip()
            if _inside(target, directory):
                yield f"mapped file {target}"


def _target(link: Path) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""


def _inside(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory + "/")


def _name(process: Path) -> str:
    try:
        return (process / "comm").read_text(errors="replace").strip()
    except OSError:
        return "?"
