"""Whatever is damaged, a check ends with findings, never with a bug."""

import random

import pytest

from tests.compat.golden import NAMES, Golden
from tests.format.damage import damage, damaged_file
from tests.maintenance.planting import check
from zfuse.errors import RepositoryNotFoundError, UnsupportedVersionError
from zfuse.maintenance.fsck import Depth
from zfuse.storage.memory import MemoryStorage


async def check_damaged(files, rng):
    """Damage one of *files*; return its key and what a check finds, None if it refuses."""
    key = rng.choice(sorted(key for key in files if files[key]))
    kind = damaged_file if files[key].startswith(b"ICE") else damage
    storage = MemoryStorage()
    for name, data in {**files, key: kind(files[key], rng)}.items():
        await storage.put(name, data)
    depth = Depth(reads_chunks=rng.random() < 0.3, asks_sources=rng.random() < 0.3)
    try:
        return key, (await check(None, storage=storage, depth=depth))[0]
    except (UnsupportedVersionError, RepositoryNotFoundError):
        return key, None


async def check_many(seed, count):
    rng = random.Random(seed)
    found = 0
    for number in range(count):
        root = Golden(NAMES[number % len(NAMES)]).repository
        names = [path for path in sorted(root.rglob("*")) if path.is_file()]
        files = {str(path.relative_to(root)): path.read_bytes() for path in names}
        key, findings = await check_damaged(files, rng)
        found += findings is None or any(finding.object == key for finding in findings)
    return found


async def test_damage_of_any_kind_is_found_or_does_not_matter():
    # Some hits what nobody needs (copies of the repo info), or texts that may be anything.
    assert await check_many(7, 24) >= 12


@pytest.mark.long
@pytest.mark.parametrize("seed", range(4))
async def test_much_damage_is_found_or_does_not_matter(seed):
    assert await check_many(seed, 300) >= 150
