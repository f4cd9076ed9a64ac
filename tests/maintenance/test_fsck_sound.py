"""Planted repositories are sound before anything is planted, whoever wrote them."""

import pytest

from tests.maintenance.planting import check, make_icechunk, make_zfuse, told
from zfuse.maintenance.fsck import Depth


@pytest.mark.parametrize("spec", [1, 2])
@pytest.mark.parametrize("writer", ["icechunk", "zfuse"])
async def test_it_is_sound(tmp_path, writer, spec):
    made = (
        make_icechunk(tmp_path, spec) if writer == "icechunk" else await make_zfuse(tmp_path, spec)
    )
    allowed = [f"file://{made.data}/"]
    found, summary = await check(made.root, allowed=allowed, depth=Depth(True, True))
    assert told(found) == []
    assert (summary.snapshots, summary.virtual_sources) == (3, 3)
    assert (summary.chunk_refs, summary.native_chunks) == (18, 10)
