import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "check_rules.py"


@pytest.fixture
def check(tmp_path):
    def run(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        done = subprocess.run(
            [sys.executable, SCRIPT], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout

    return run


def test_a_long_module_is_named(check):
    assert check("zfuse/a.py", "x = 1\n" * 450)[0] == 0
    status, out = check("zfuse/a.py", "x = 1\n" * 451)
    assert (status, "zfuse/a.py: 451 lines" in out) == (1, True)


@pytest.mark.parametrize(
    "line",
    [
        "@pytest.mark.skip\ndef test(): pass",
        "@pytest.mark.skip()\ndef test(): pass",
        "@pytest.mark.xfail(strict=True)\ndef test(): pass",
        "@pytest.mark.skipif(True)\ndef test(): pass",
        "def test():\n    pytest.skip()",
    ],
)
def test_a_skip_without_a_reason_is_named(check, line):
    status, out = check("tests/test_a.py", f"import pytest\n{line}\n")
    assert (status, "tests/test_a.py:" in out) == (1, True)


@pytest.mark.parametrize(
    "line",
    [
        '@pytest.mark.skip(reason="r")\ndef test(): pass',
        '@pytest.mark.skipif(True, reason="r")\ndef test(): pass',
        'def test():\n    pytest.skip("r")',
        "x.skip()",
    ],
)
def test_a_skip_with_a_reason_passes(check, line):
    assert check("tests/test_a.py", f"import pytest\n{line}\n")[0] == 0
