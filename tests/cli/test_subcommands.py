"""The commands below zfuse branch, tag, container and config."""

import importlib
import re

import pytest

from zfuse.cli.main import run
from zfuse.cli.subcommands import Subcommands

GROUPS = {
    name: importlib.import_module(f"zfuse.cli.{name}").command
    for name in ("branch", "tag", "container", "config")
}


@pytest.mark.parametrize("name", GROUPS)
def test_every_help_has_an_example_and_json(name, capsys):
    group = GROUPS[name]
    assert isinstance(group, Subcommands)
    for below in group.commands:
        assert run([name, below, "--help"]) == 0
        text = capsys.readouterr().out
        example = re.search(r"Example: zfuse (\S+) (\S+)", text)
        assert example is not None
        assert example.groups() == (name, below)
        assert "--json" in text
        # Whatever may ask a store has to be told how to reach it.
        assert {"--profile", "--deadline"} <= set(re.findall(r"--[a-z-]+", text))


@pytest.mark.parametrize("name", GROUPS)
def test_a_wrong_name_gets_the_nearest(name, capsys):
    group = GROUPS[name]
    for below in group.commands:
        assert run([name, f"{below}x"]) == 2
        error = capsys.readouterr().err
        assert f"did you mean '{below}'?" in error
        assert f"zfuse {name} --help" in error
    assert run([name]) == 2
