"""Every trap of the format has its tests: where they are, and that they are there."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
NUMBERED = (
    "format/test_traps.py",
    "format/test_traps_chunks.py",
    "repo/test_traps.py",
)
"""Here tests are named by the number of their trap."""

ELSEWHERE = {
    3: ["contracts/storage.py::test_concurrent_swappers_lose_no_update"],
    4: ["format/test_repo_update.py::test_times_of_the_ops_log_ascend_even_if_the_clock_does_not"],
    10: ["repo/test_repository.py::test_where_both_kinds_of_entry_are_version_2_wins"],
    11: [
        "repo/test_refs_v1.py::test_odd_names_come_back_from_a_local_directory",
        "repo/test_refs_v1.py::"
        "test_a_ref_that_can_not_be_read_is_an_error_and_never_a_ref_that_is_not_there",
    ],
    19: [
        "repo/test_asset_manager.py::test_what_is_referenced_and_gone_is_an_error_and_never_absent",
        "repo/test_asset_manager.py::test_a_chunk_that_was_cut_short_is_an_error_and_never_zeros",
    ],
    20: ["mount/test_posix.py::test_what_was_never_written_is_not_there"],
    21: ["mount/test_posix.py::test_every_way_to_read_gives_the_same"],
    23: [
        "compat/test_repositories.py::test_what_a_shrinking_array_lost_stays_lost",
        "mount/test_every_key.py::test_a_local_repository",
    ],
    27: ["repo/test_virtual.py::test_the_etag_of_a_local_file_never_matches"],
}


def functions(path):
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    tree = ast.parse((TESTS / path).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, kinds)}


def numbered():
    names = {name for path in NUMBERED for name in functions(path)}
    return {int(found[1]) for name in names if (found := re.match(r"test_(\d\d)_", name))}


@pytest.mark.parametrize("trap", range(1, 31))
def test_a_trap_is_tested(trap):
    if trap in ELSEWHERE:
        for test in ELSEWHERE[trap]:
            path, _, name = test.partition("::")
            assert name in functions(path)
    else:
        assert trap in numbered()
