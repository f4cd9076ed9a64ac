"""Damages files at random, and runs many of them through the decoders under hard limits.

As a program it takes a seed and a number of files: it fails when decoding needs much more
memory or time than the sound files do.
"""

import random
import resource
import sys
from pathlib import Path

from tests.format.building import (
    Shared,
    array_node,
    manifest,
    repo_info,
    snapshot,
    snapshot_info,
    struct,
    transaction_log,
    u8,
    u32s,
    unwrap,
    wrap,
)
from tests.format.exercise import EXERCISES, exercise
from zfuse.format.header import HEADER_SIZE, FileType

DATA = Path(__file__).parents[1] / "data"
MEMORY = 256 << 20
SECONDS = 100

ODD_WORDS = [0, 1, 2, 3, 4, 8, 0xFFFFFFFF, 0xFFFFFFFC, 0x7FFFFFFF, 0x80000000, 1 << 20, 1 << 28]
ODD_BYTES = [0, 1, 2, 4, 0x7F, 0x80, 0xFE, 0xFF]


def golden_files():
    """Return the files of all golden repositories by kind."""
    found = {kind: [] for kind in EXERCISES}
    for path in sorted(DATA.glob("*/repository/**/*")):
        data = path.read_bytes() if path.is_file() else b""
        if data.startswith(b"ICE"):
            found[FileType(data[37])].append(data)
    return found


def damage(data, rng):
    """Return *data* with a few changes."""
    damaged = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 4, 16])):
        rng.choice([_flip, _byte, _word, _word, _nudge, _splice, _cut])(damaged, rng)
        damaged += b"\0" * (not damaged)
    return bytes(damaged)


def damaged_file(data, rng):
    """Return the file *data* with changes in its payload, or else in the file itself."""
    if rng.random() < 0.15:
        return damage(data, rng)
    return wrap(data[37], damage(unwrap(data), rng), data[36])


def _flip(data, rng):
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _byte(data, rng):
    data[rng.randrange(len(data))] = rng.choice(ODD_BYTES)


def _word(data, rng):
    number = rng.choice([*ODD_WORDS, len(data), rng.randrange(len(data)), rng.randrange(1 << 16)])
    _put(data, rng, number)


def _nudge(data, rng):
    at = rng.randrange(len(data)) & ~3
    _put(data, rng, int.from_bytes(data[at : at + 4], "little") + 4 * rng.randrange(-64, 64), at)


def _put(data, rng, number, at=None):
    at = rng.randrange(len(data)) & ~3 if at is None else at
    data[at : at + 4] = (number & 0xFFFFFFFF).to_bytes(4, "little")


def _splice(data, rng):
    source, target, size = rng.randrange(len(data)), rng.randrange(len(data)), rng.randrange(64)
    data[target : target + size] = data[source : source + size]


def _cut(data, rng):
    if rng.random() < 0.3:
        del data[rng.randrange(len(data)) :]


def main(seed, count):
    """Read *count* damaged files within MEMORY more than now and SECONDS of processor time."""
    rng = random.Random(seed)
    files = [data for group in golden_files().values() for data in group]
    sound = sum(exercise(data) for data in files)
    if sound != len(files):
        sys.exit(f"{len(files) - sound} golden files were refused")
    hostile = list(hostile_files())
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    read = sum(exercise(damaged_file(rng.choice(files), rng)) for _ in range(count))
    for data in hostile:
        if exercise(data):
            sys.exit("a hostile file was read")
    sys.stdout.write(f"{read} of {count} were read all the same\n")


def hostile_files():
    """Yield files that are small but would unpack, or refer, to far more than they hold."""
    block = (1 << 17 << 3 | 1 << 1).to_bytes(3, "little") + b"\0"
    last = (1 << 17 << 3 | 1 << 1 | 1).to_bytes(3, "little") + b"\0"
    head = golden_files()[FileType.SNAPSHOT][0][:HEADER_SIZE]
    yield head + b"\x28\xb5\x2f\xfd\xe0" + (8001 << 17).to_bytes(8, "little") + block * 8000 + last
    yield head + b"\x28\xb5\x2f\xfd\x00\x88" + block * 30_000 + last
    for kind in EXERCISES:
        for word in (0, 4, 0xFFFFFFFC, 0x10000):
            yield wrap(kind, word.to_bytes(4, "little") * (4 << 20))
    text = Shared("x" * 1_000_000)
    yield snapshot(s2=[array_node(s1=[Shared({0: text})] * 2000)])
    yield repo_info(s4=[Shared(snapshot_info(s3=text))] * 2000)
    yield repo_info(s7=[Shared({0: u8(5), 1: {0: text}})] * 2000)
    yield manifest([Shared({0: u32s(*range(1000)), 1: b""})] * 200_000)
    changed = {0: struct(b"the node"), 1: [{0: u32s(n)} for n in range(20_000)]}
    yield transaction_log(s7=[Shared(changed)] * 20_000)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
