"""Everything in README.md that can be run is run, and what can be parsed is parsed."""

import contextlib
import doctest
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from zfuse import errors
from zfuse.cli.main import COMMANDS
from zfuse.daemon.mountinfo import zfuse_mounts
from zfuse.daemon.settings import NAMES, layer_from_mount_options, layer_from_toml, mount_settings

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text()
END = "--- end of command ---"


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.M | re.S)


def commands(block):
    """Return the commands of a console block, each with the output that it shows."""
    found = []
    for line in block.splitlines(keepends=True):
        if line.startswith("$ "):
            found.append((line[2:].strip(), []))
        else:
            found[-1][1].append(line)
    return [(command, "".join(output)) for command, output in found]


SCRIPTS = {c for b in blocks("console") for c, _ in commands(b) if c.startswith("scripts/")}
CONSOLE = [block for block in blocks("console") if not block.startswith("$ scripts/")]
(MAKE,) = [block for block in CONSOLE if "quickstart.py make" in block]
RUN = [block for block in CONSOLE if block != MAKE]


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory):
    """A directory that has the checkout, and what the manual says to make first."""
    place = tmp_path_factory.mktemp("readme")
    # Compiled modules come and go while others import them.
    sources = shutil.ignore_patterns("__pycache__")
    for name in ("zfuse", "scripts"):
        shutil.copytree(ROOT / name, place / name, ignore=sources)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, place)
    ((command, shown),) = commands(MAKE)
    python, *arguments = command.split()
    assert python == "python"
    made = subprocess.run(
        [sys.executable, *arguments],
        cwd=place,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=240,
    )
    assert made.stdout == shown
    (place / "bin").mkdir()
    (place / "bin" / "python3").symlink_to(sys.executable)
    return place


@pytest.fixture
def mnt(sandbox):
    """Where ``mnt`` is to be; what a failed block leaves mounted there is taken away."""
    mnt = sandbox / "mnt"
    yield mnt
    while any(mount.path == mnt for mount in zfuse_mounts()):
        subprocess.run(["fusermount3", "-uz", mnt], check=True, timeout=60)
    mnt.rmdir()


@pytest.fixture
def environment(sandbox):
    foreign = ("AWS_", "ZFUSE_", "XDG_")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
    return {
        **inherited,
        "HOME": str(sandbox / "home"),
        "PATH": f"{sandbox}/bin:{sys.prefix}/bin:{os.environ['PATH']}",
        "AWS_EC2_METADATA_DISABLED": "true",
        # A new environment finds what zfuse needs where the tests do, and installs zfuse alone.
        "PYTHONPATH": sysconfig.get_paths()["purelib"],
    }


@pytest.mark.fuse
@pytest.mark.parametrize("block", RUN, ids=lambda block: block.splitlines()[0][2:50])
def test_the_commands_do_what_the_manual_says(block, sandbox, mnt, environment, request):
    if "s3://weather" in block:
        server = request.getfixturevalue("s3_server")
        with contextlib.closing(server.client()) as client:
            client.create_bucket(Bucket="weather")
        environment |= server.environment()
    if "$ mkdir mnt" not in block:
        mnt.mkdir()
    expected = commands(block)
    script = "".join(f"{command}\necho '{END}'\n" for command, _ in expected)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=sandbox,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    answers = done.stdout.split(f"{END}\n")[:-1]
    checker = doctest.OutputChecker()
    for (command, shown), answer in zip(expected, answers, strict=True):
        if shown:
            got = normalized(answer).rstrip("\n") + "\n"
            matches = checker.check_output(shown, got, doctest.ELLIPSIS)
            assert matches, f"$ {command}\n{got}"


def normalized(output):
    output = re.sub(r"\b[0-9A-Z]{20}\b", "ID", output)
    output = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "TIME", output)
    return re.sub(r"\bpid \d+", "pid N", output)


def test_the_scripts_are_there():
    # The suite is itself run by scripts/test, which runs scripts/check; the quick start has
    # a test of its own.
    assert {c.split()[0] for c in SCRIPTS} == {
        "scripts/quickstart",
        "scripts/check",
        "scripts/test",
    }
    for command in SCRIPTS:
        script, *arguments = command.split()
        assert os.access(ROOT / script, os.X_OK)
        assert all((ROOT / argument).exists() for argument in arguments)


@pytest.mark.parametrize("block", blocks("python"), ids=["everyday", "dask", "forks"])
def test_the_programs_run(block, tmp_path, environment):
    subprocess.run(
        [sys.executable, "-W", "error", "-c", block],
        cwd=tmp_path,
        env=environment,
        check=True,
        timeout=240,
    )


def test_the_mount_file_is_one(tmp_path):
    (block,) = blocks("toml")
    (tmp_path / "data.toml").write_text(block)
    layer = layer_from_toml(tmp_path / "data.toml", is_mount_file=True)
    settings = mount_settings(layer["repository"], layer)
    assert settings.repository == "s3://bucket/repo"
    assert layer["mountpoint"] == "/mnt/repo"
    assert settings.allow_other


def test_the_lines_of_fstab_are_understood():
    (block,) = blocks("fstab")
    for line in block.splitlines():
        repository, _, kind, options, *_ = line.split()
        assert kind == "zfuse"
        assert mount_settings(repository, layer_from_mount_options([options])) is not None


def test_every_setting_and_command_is_in_the_manual():
    assert [name for name in NAMES if f"`{name}`" not in TEXT and name != "rw"] == []
    table = TEXT[TEXT.index("## Commands") : TEXT.index("### Exit codes")]
    assert [name for name in COMMANDS if not re.search(rf"^\|.*`{name}\b", table, re.M)] == []


def test_the_exit_codes_are_those_of_the_errors():
    table = TEXT[TEXT.index("### Exit codes") : TEXT.index("### errno")]
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.M)}
    kinds = [k for k in vars(errors).values() if isinstance(k, type)]
    raised = {k.exit_code for k in kinds if issubclass(k, errors.ZfuseError)}
    assert raised - listed == set()
    assert listed - raised == {0, 3, 130}


def test_links_inside_lead_somewhere():
    titles = re.findall(r"^#+ (.*)$", TEXT, re.M)
    anchors = {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}
    assert set(re.findall(r"\]\(#([^)]*)\)", TEXT)) <= anchors
