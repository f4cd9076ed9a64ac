"""Writers that do not stop while a mount is synced; each knows what it has written.

``python -m tests.mount.busy_writers ROLE BRANCH NOTES`` works below the directory BRANCH/ROLE
until the file NOTES/stop appears. Then NOTES/ROLE.json has the number of each file that must
be there; after each file that it has closed for good NOTES/ROLE.closed tells the numbers so far.
The bytes of a file are its number, again and again.
"""

import json
import os
import sys
import time
from pathlib import Path

from tests.compat.documents import GROUP, array_document

SIZES = {
    "replacer": 2400,
    "patcher": 8000,
    "linker": 800,
    "mover": 1600,
    "deleter": 400,
    "maker": 720,
}
COUNT = 12
PAUSE_S = 0.004


def content(number, role):
    return number.to_bytes(8) * (SIZES[role] // 8)


class Writer:
    """One writer: ``numbers`` are those of the chunks it has written, by name below its place."""

    def __init__(self, role, branch, notes):
        self.role, self.place, self.notes = role, branch / role, notes
        self.numbers = {}
        self.documents = {}
        self.place.mkdir()

    def run(self):
        self.store("zarr.json", GROUP)
        step = getattr(self, self.role)
        number = 0
        while not (self.notes / "stop").exists():
            step(number := number + 1)
            self.tell("closed")
            time.sleep(PAUSE_S)
        self.tell("json")

    def tell(self, kind):
        told = {"numbers": self.numbers, "documents": sorted(self.documents)}
        partial = self.notes / f"{self.role}.{kind}.partial"
        partial.write_text(json.dumps(told))
        partial.rename(self.notes / f"{self.role}.{kind}")

    def store(self, name, data):
        """Write a file as zarr-python does: beside its name, then renamed."""
        path = self.place / name
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        partial.write_bytes(data)
        partial.replace(path)
        if name.endswith("zarr.json"):
            self.documents[name] = True

    def array(self, name):
        if f"{name}/zarr.json" not in self.documents:
            (self.place / name / "c").mkdir(parents=True)
            self.store(f"{name}/zarr.json", array_document((COUNT,), (1,)))

    def chunk(self, name, number):
        self.store(name, content(number, self.role))
        self.numbers[name] = number

    def replacer(self, number):
        self.array("a")
        self.chunk(f"a/c/{number % COUNT}", number)

    def patcher(self, number):
        self.array("a")
        name = f"a/c/{number % 3}"
        if name not in self.numbers:
            self.chunk(name, number)
            return
        data = content(number, self.role)
        with (self.place / name).open("r+b", buffering=0) as file:
            for start in range(0, len(data), 2000):
                file.write(data[start : start + 2000])
        self.numbers[name] = number

    def linker(self, number):
        self.array("a")
        name = f"a/c/{number % COUNT}"
        lock = self.place / f"{name}.__lock"
        lock.write_bytes(content(number, self.role))
        if name in self.numbers:
            (self.place / name).unlink()
        os.link(lock, self.place / name)
        lock.unlink()
        self.numbers[name] = number

    def mover(self, number):
        """Rename a group that is written to all the time."""
        old, new = f"g{(number - 1) % 3}", f"g{number % 3}"
        if number == 1:
            self.array(f"{old}/a")
            self.store(f"{old}/zarr.json", GROUP)
        (self.place / old).rename(self.place / new)
        for names in (self.numbers, self.documents):
            moved = {new + name[len(old) :]: names.pop(name) for name in list(names) if "/" in name}
            names.update(moved)
        self.chunk(f"{new}/a/c/{number % COUNT}", number)

    def deleter(self, number):
        """Write few chunks, in one way or the other, and delete most of them at once."""
        self.array("a")
        name = f"a/c/{number % 3}"
        self.chunk(name, number)
        if number % 2:
            (self.place / name).write_bytes(content(number, self.role))
        if number % 7:
            (self.place / name).unlink()
            del self.numbers[name]

    def maker(self, number):
        """Make array after array, and overwrite the chunk of an earlier one in full."""
        if number < 80:
            self.array(f"a{number}")
            self.chunk(f"a{number}/c/0", number)
            return
        name = f"a{number % 79 + 1}/c/0"
        (self.place / name).write_bytes(content(number, self.role))
        self.numbers[name] = number


if __name__ == "__main__":
    Writer(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])).run()
