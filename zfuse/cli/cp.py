"""``zfuse cp``."""

import click

from zfuse.cli import output
from zfuse.cli.sessions import same_branch


@click.command(epilog="Example: zfuse cp /mnt/repo/branch/main/air /mnt/repo/branch/main/air-2026")
@click.argument("source")
@click.argument("target")
@output.as_json
def command(*, source: str, target: str, as_json: bool) -> None:
    """Copy the group or array SOURCE to TARGET, in the same branch, without copying chunks.

    Both have the same chunks in the repository afterwards, until one of them is written to.
    ``zfuse sync`` commits it.
    """
    of, to = same_branch(source, target)
    told = of.call("copy", source=list(of.names), target=list(to.names))
    if as_json:
        output.print_json(told)
