"""Programs written for the official library run here with nothing but their import changed."""

import contextlib
import io
import re

import icechunk
import pytest

from tests.api.outcome import ID
from tests.api.programs import PROGRAMS

icechunk.set_logs_filter("off")
pytestmark = pytest.mark.compat


def printed(program, place):
    """Return what *program* prints, with ids in the order in which they appear."""
    place.mkdir()
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        exec(compile(program, "<program>", "exec"), {"place": str(place), "__name__": "program"})
    ids = {}
    return ID.sub(lambda found: ids.setdefault(found[0], f"<{len(ids)}>"), told.getvalue())


def for_zfuse(program):
    """Return *program* with the import replaced."""
    changed = re.sub(r"^import icechunk$", "import zfuse as icechunk", program, flags=re.M)
    changed = re.sub(r"^import icechunk as ic$", "import zfuse as ic", changed, flags=re.M)
    return re.sub(r"^from icechunk import", "from zfuse import", changed, flags=re.M)


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")
def test_programs_print_the_same_with_the_import_changed(name, tmp_path):
    """Each prints, and so reads, just what it does with the official library."""
    program = PROGRAMS[name]
    expected = printed(program, tmp_path / "icechunk")
    changed = for_zfuse(program)
    assert "import icechunk" not in changed
    assert expected.count("\n") > 2
    assert printed(changed, tmp_path / "zfuse") == expected


def test_what_zfuse_committed_the_official_library_reads(tmp_path):
    """And the other way round: the quick start leaves a repository that both open."""
    for name, program in (
        ("theirs", PROGRAMS["quick start"]),
        ("ours", for_zfuse(PROGRAMS["quick start"])),
    ):
        printed(program, tmp_path / name)
        reading = f"""
import icechunk
import zarr
storage = icechunk.local_filesystem_storage({str(tmp_path / name / "repo")!r})
repo = icechunk.Repository.open(storage)
print([s.message for s in repo.ancestry(branch="main")])
print(zarr.open_group(repo.readonly_session("main").store, mode="r")["my_array"][:].tolist())
"""
        expected = printed(reading, tmp_path / f"{name}-1")
        assert "[2, 2, 2, 2, 2, 1, 1, 1, 1, 1]" in expected
        assert printed(for_zfuse(reading), tmp_path / f"{name}-2") == expected
