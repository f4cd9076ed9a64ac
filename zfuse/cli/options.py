"""Options that several commands share, and the settings that they stand for."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import click

from zfuse.daemon.settings import (
    SYSTEM_CONFIG,
    Layer,
    layer_from_environment,
    layer_from_toml,
    merge,
)

Command = Callable[..., Any]

_STORAGE: Final = (
    click.option("--endpoint-url", metavar="URL", help="S3 server, where it is not AWS."),
    click.option("--region", help="S3 region."),
    click.option("--profile", help="Profile of the shared AWS configuration files."),
    click.option("--anonymous", is_flag=True, default=None, help="Send no credentials."),
    click.option("--force-path-style", is_flag=True, default=None, help="Bucket in the URL path."),
    click.option("--requester-pays", is_flag=True, default=None, help="Accept to pay for reading."),
    click.option("--deadline", metavar="SECONDS", help="Longest time one request may take [30]."),
)
_REF: Final = (
    click.option("--branch", metavar="NAME", help="Look at this branch."),
    click.option("--tag", metavar="NAME", help="Look at this tag."),
    click.option("--snapshot", metavar="ID", help="Look at this snapshot."),
    click.option("--as-of", metavar="TIME", help="Look at main as it was then (RFC 3339)."),
)
_VIRTUAL: Final = click.option(
    "--allow-virtual",
    metavar="PREFIX[=anonymous|env|profile:NAME]",
    multiple=True,
    help="Read virtual chunks below this URL prefix, with these credentials. Repeatable.",
)


def storage_options(command: Command) -> Command:
    """Add the options that say how to reach a repository."""
    return _with(command, _STORAGE)


def ref_options(command: Command) -> Command:
    """Add the options that choose a version."""
    return _with(command, _REF)


def virtual_option(command: Command) -> Command:
    """Add ``--allow-virtual``."""
    return _VIRTUAL(command)


def _with(command: Command, options: tuple[Callable[[Command], Command], ...]) -> Command:
    for option in reversed(options):
        command = option(command)
    return command


def layer_of(flags: Mapping[str, Any]) -> Layer:
    """Return the settings among the parsed *flags* of a command; flags not given are left out."""
    return {
        name.replace("_", "-"): list(value) if isinstance(value, tuple) else value
        for name, value in flags.items()
        if value is not None and value != ()
    }


def user_config() -> Path:
    """Return where this user's settings are."""
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home, "zfuse", "config.toml")


def all_layers(flags: Layer, mount_file: Layer | None = None) -> Layer:
    """Merge *flags* with the environment, a mount file, and the user's and system's files."""
    return merge(
        [
            flags,
            layer_from_environment(os.environ),
            mount_file or {},
            layer_from_toml(user_config()),
            layer_from_toml(SYSTEM_CONFIG),
        ]
    )
