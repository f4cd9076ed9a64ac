"""``zfuse mv``."""

import os
from pathlib import Path
from typing import Any

import click

from zfuse.cli import output
from zfuse.cli.direct_edits import DirectEdit, edit_repository, print_edit, split_places
from zfuse.cli.options import storage_options
from zfuse.cli.sessions import same_branch
from zfuse.errors import AlreadyExistsError, NotAllowedError, NotFoundError
from zfuse.repo.session import Session


@click.command(epilog="Example: zfuse mv /mnt/repo/branch/main/air /mnt/repo/branch/main/old/air")
@click.argument("places", metavar="[REPO] SOURCE TARGET", nargs=-1)
@click.option("-m", "--message", metavar="TEXT", help="With REPO: what the commit does.")
@click.option("--branch", metavar="NAME", help="With REPO: the branch [main].")
@storage_options
@output.as_json
def command(
    *,
    places: tuple[str, ...],
    message: str | None,
    as_json: bool,
    **flags: Any,  # noqa: ANN401
) -> None:
    """Move the group or array SOURCE to TARGET, in the same branch, without copying chunks.

    In a mount it is like mv(1), but never falls back to copying, and replaces nothing; ``zfuse
    sync`` commits it. With REPO both are nodes of that repository, and it is committed at once.
    """
    repo, source, target = split_places(places)
    if repo is not None:
        told = edit_repository(repo, DirectEdit(source, target, message), Session.move, flags)
        if as_json:
            output.print_json(told)
        else:
            print_edit(told)
        return
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
