"""``zfuse mv``."""

import os
from pathlib import Path

import click

from zfuse.cli import output
from zfuse.cli.sessions import same_branch
from zfuse.errors import AlreadyExistsError, NotAllowedError, NotFoundError


@click.command(epilog="Example: zfuse mv /mnt/repo/branch/main/air /mnt/repo/branch/main/old/air")
@click.argument("source")
@click.argument("target")
@output.as_json
def command(*, source: str, target: str, as_json: bool) -> None:
    """Move the group or array SOURCE to TARGET, in the same branch, without copying chunks.

    Like mv(1), but never falls back to copying, and replaces nothing. ``zfuse sync`` commits
    it.
    """
    same_branch(source, target)
    if Path(target).exists():
        raise AlreadyExistsError(f"{target} exists; remove it first")
    try:
        os.rename(source, target)
    except FileNotFoundError as exc:
        raise NotFoundError(f"{source}, or the directory of {target}, does not exist") from exc
    except OSError as exc:
        raise NotAllowedError(f"{source} can not become {target}: {exc.strerror}") from exc
    if as_json:
        output.print_json({"from": source, "to": target})
