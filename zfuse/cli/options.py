"""Options that several commands share; light, so that help and ``mount -d`` are quick."""

from collections.abc import Callable
from typing import Any, Final

import click

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
