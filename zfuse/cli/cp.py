"""``zfuse cp``."""

from typing import Any

import click

from zfuse.cli import output
from zfuse.cli.direct_edits import DirectEdit, edit_repository, print_edit, split_places
from zfuse.cli.options import storage_options
from zfuse.cli.sessions import same_branch
from zfuse.repo.session import Session


@click.command(epilog="Example: zfuse cp /mnt/repo/branch/main/air /mnt/repo/branch/main/air-2026")
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
    """Copy the group or array SOURCE to TARGET, in the same branch, without copying chunks.

    Both have the same chunks in the repository afterwards, until one of them is written to. In
    a mount ``zfuse sync`` commits it. With REPO both are nodes of that repository, and it is
    committed at once.
    """
    repo, source, target = split_places(places)
    if repo is not None:
        told = edit_repository(repo, DirectEdit(source, target, message), Session.copy, flags)
        if not as_json:
            print_edit(told)
            return
    else:
        of, to = same_branch(source, target)
        told = of.call("copy", source=list(of.names), target=list(to.names))
    if as_json:
        output.print_json(told)
