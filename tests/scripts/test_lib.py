"""scripts/lib.sh with a PATH, a home and a pyenv of the test's own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

LIB = Path(__file__).parents[2] / "scripts" / "lib.sh"
TOOLS = ["dirname", "sort", "cat", "mktemp", "rm", "tail", "id", "env", "awk", "tac", "sh"]


@pytest.fixture
def machine(tmp_path):
    """A machine that has the basic tools and nothing else."""
    (tmp_path / "bin").mkdir()
    for tool in TOOLS:
        found = next(p for p in ("/usr/bin", "/bin") if os.access(f"{p}/{tool}", os.X_OK))
        (tmp_path / "bin" / tool).symlink_to(f"{found}/{tool}")
    return Machine(tmp_path)


class Machine:
    def __init__(self, root):
        self.root = root
        self.env = {"PATH": str(root / "bin"), "HOME": str(root / "home")}

    def add(self, path, text):
        script = self.root / path
        script.parent.mkdir(parents=True, exist_ok=True)
        script.write_text(f"#!/bin/sh\n{text}\n")
        script.chmod(0o755)
        return str(script)

    def add_python(self, path, version=None):
        """Add an interpreter; *version* makes it say that it is another one than ours."""
        if version is None:
            return self.add(path, f'exec {sys.executable} "$@"')
        return self.add(path, "exit 1" if version < (3, 12) else "exit 0")

    def bash(self, code, **env):
        return subprocess.run(
            ["/bin/bash", "-c", f". {LIB}; set -euo pipefail; {code}"],
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )


def found(machine, **env):
    return machine.bash("find_python", **env).stdout.strip()


def test_a_shim_that_fails_is_passed_over_for_the_next(machine):
    machine.add("bin/python3.14", "echo 'pyenv: python3.14: command not found' >&2; exit 127")
    machine.add_python("bin/python3.13", (3, 11))
    expected = machine.add_python("bin/python3.12")
    machine.add_python("bin/python3")
    assert found(machine) == expected


def test_the_newest_that_runs_is_taken(machine):
    machine.add_python("bin/python3.12")
    expected = machine.add_python("bin/python3.13")
    assert found(machine) == expected


def test_a_plain_python3_will_do(machine):
    expected = machine.add_python("bin/python3")
    assert found(machine) == expected


def test_pyenv_is_looked_at_newest_first(machine):
    machine.add_python("bin/python3", (3, 11))
    machine.add_python("home/.pyenv/versions/3.9.18/bin/python", (3, 9))
    machine.add_python("home/.pyenv/versions/3.12.1/bin/python")
    expected = machine.add_python("home/.pyenv/versions/3.13.0/bin/python")
    assert found(machine) == expected

    elsewhere = machine.add_python("other/versions/3.12.9/bin/python")
    assert found(machine, PYENV_ROOT=str(machine.root / "other")) == elsewhere


def test_a_named_python_goes_first(machine):
    machine.add_python("bin/python3.13")
    named = machine.add_python("mine/python")
    assert found(machine, ZFUSE_PYTHON=named) == named


def test_uv_is_asked_to_bring_one(machine):
    expected = str(machine.root / "uv-python")
    machine.add(
        "bin/uv",
        f'[ "$1 $2" = "python install" ] && {{ echo "#!/bin/sh" >{expected}; exit 0; }}\n'
        f"[ -e {expected} ] && echo {expected}",
    )
    assert found(machine) == expected


def test_without_any_python_the_missing_piece_is_named(machine):
    done = machine.bash("find_python")
    assert done.returncode == 2
    assert "no Python >= 3.12" in done.stderr
    assert "uv" in done.stderr
    assert done.stdout == ""


def test_missing_packages_are_named_where_they_cannot_be_installed(machine):
    done = machine.bash("can_apt() { return 1; }; need_packages fuse3 gcc")
    assert done.returncode == 2
    assert done.stderr.endswith("run: sudo apt-get install fuse3 gcc\n")
    assert machine.bash("need_packages").returncode == 0


def test_compilers_are_asked_for_only_where_they_are_missing(machine):
    done = machine.bash("build_packages")
    assert done.stdout.split() == ["gcc", "libc6-dev", "pkg-config", "libfuse3-dev"]
    machine.add("bin/cc", "exit 0")
    machine.add("bin/pkg-config", "exit 0")
    assert machine.bash("build_packages").stdout == ""


def test_headers_are_asked_for_only_where_they_are_missing(machine):
    done = machine.bash(f"python_packages {sys.executable}")
    assert (done.returncode, done.stdout) == (0, "")


def test_an_environment_is_up_to_date_until_pyproject_changes(machine):
    (machine.root / "venv" / "bin").mkdir(parents=True)
    venv = str(machine.root / "venv")
    check = "is_installed test check && echo yes || echo no"
    assert machine.bash(check, ZFUSE_VENV=venv).stdout == "no\n"
    machine.add_python("venv/bin/python")
    (machine.root / "bin" / "sha256sum").symlink_to("/usr/bin/sha256sum")
    for extra in ("test", "check"):
        machine.bash(f'stamp >"$VENV/.zfuse-{extra}"', ZFUSE_VENV=venv)
    assert machine.bash(check, ZFUSE_VENV=venv).stdout == "yes\n"
    (machine.root / "venv" / ".zfuse-check").write_text("of another pyproject.toml\n")
    assert machine.bash(check, ZFUSE_VENV=venv).stdout == "no\n"


def test_output_is_shown_only_of_what_fails(machine):
    assert machine.bash("quietly sh -c 'echo fine'").stderr == ""
    done = machine.bash("quietly sh -c 'echo reason; exit 3'")
    assert (done.returncode, done.stderr) == (3, "reason\n")
