import os
import re
import subprocess
import sys

import click
import pytest

from zfuse import errors
from zfuse.cli.main import COMMANDS, run, zfuse


def raising(exc):
    @click.command()
    def command():
        raise exc

    return command


EXIT_CODES = {
    errors.NotFoundError: 2,
    errors.InvalidInputError: 2,
    errors.UncommittedChangesError: 4,
    errors.ConflictError: 5,
    errors.NotMountedError: 6,
    errors.BusyError: 7,
    errors.CorruptionError: 8,
    errors.MissingObjectError: 8,
    errors.RepositoryNotFoundError: 10,
    errors.AccessDeniedError: 12,
    errors.ContainerNotAllowedError: 12,
    errors.StorageError: 75,
    errors.StorageTimeoutError: 75,
}


@pytest.mark.parametrize(("kind", "status"), EXIT_CODES.items(), ids=str)
def test_an_error_is_one_line_and_its_exit_code(kind, status, capsys):
    assert run([], raising(kind("what is wrong\nand what to do"))) == status
    assert capsys.readouterr().err == "zfuse: what is wrong and what to do\n"


def test_the_telling_error_of_a_nursery_is_the_one_reported(capsys):
    group = BaseExceptionGroup("g", [BaseExceptionGroup("h", [errors.BusyError("it is busy")])])
    assert run([], raising(group)) == 7
    assert capsys.readouterr().err == "zfuse: it is busy\n"

    group = BaseExceptionGroup("g", [errors.BusyError("it is busy"), ValueError("oops")])
    assert run([], raising(group)) == 1
    assert "this is a bug in zfuse: ValueError: oops" in capsys.readouterr().err


def test_a_bug_says_how_to_get_the_traceback(capsys, monkeypatch):
    monkeypatch.delenv("ZFUSE_DEBUG", raising=False)
    assert run([], raising(RuntimeError("oops"))) == 1
    error = capsys.readouterr().err
    assert "ZFUSE_DEBUG=1" in error
    assert len(error.splitlines()) == 1

    monkeypatch.setenv("ZFUSE_DEBUG", "1")
    assert run([], raising(RuntimeError("oops"))) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("exc", [KeyboardInterrupt(), click.Abort()])
def test_an_interrupt_is_silent(exc, capsys):
    assert run([], raising(exc)) == 130
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["mont"], "did you mean 'mount'"),
        (["zzz"], "no command 'zzz'; see zfuse --help"),
        (["ls", "--tga", "v1"], "'--tag'"),
        (["umount", "a", "b"], "zfuse umount --help"),
        (["create"], "REPO"),
        (["log", "-n", "many", "r"], "many"),
    ],
)
def test_wrong_usage_says_what_is_right(arguments, says, capsys):
    assert run(arguments) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("--help") == 1
    assert len(error.splitlines()) == 1


def test_the_version(capsys):
    assert run(["--version"]) == 0
    assert re.fullmatch(r"zfuse \d+\.\d+\.\d+\S*\n", capsys.readouterr().out)


def test_no_command_shows_the_help(capsys):
    assert run([]) == 2
    captured = capsys.readouterr()
    for name, line in COMMANDS.items():
        assert re.search(rf"^ +{name} +{re.escape(line)}$", captured.err + captured.out, re.M)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_every_command_has_an_example_and_json(name, capsys):
    assert run([name, "--help"]) == 0
    text = capsys.readouterr().out
    example = re.search(r"Example: (zfuse .*)", text)
    assert example is not None
    assert example[1].split()[1] == name
    assert "--json" in text


@pytest.mark.parametrize("name", COMMANDS)
def test_the_summary_of_a_command_fits_its_help(name):
    command = zfuse.get_command(click.Context(zfuse), name)
    assert command is not None
    assert command.help


@pytest.mark.parametrize("arguments", [["--help"], ["mount", "--help"]])
def test_the_first_steps_of_a_mount_import_nothing_slow(arguments):
    code = (
        "import sys; from zfuse.cli.main import run; run(sys.argv[1:]);"
        "slow = {'trio', 'numpy', 'zarr', 'rich', 'aiobotocore'} & set(sys.modules);"
        "sys.exit(', '.join(slow))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert done.stderr.strip() == ""


def test_a_reader_that_leaves_early_gets_no_complaint(repository, home):
    source, sink = os.pipe()
    os.close(source)
    done = subprocess.run(
        [sys.executable, "-m", "zfuse", "log", str(repository)],
        stdout=sink,
        stderr=subprocess.PIPE,
        check=False,
        env=home,
    )
    os.close(sink)
    assert (done.returncode, done.stderr) == (141, b"")
