"""``zfuse discard``."""

import click

from zfuse.cli import output
from zfuse.cli.sessions import InBranch, find_branch
from zfuse.errors import InvalidInputError


@click.command(epilog="Example: zfuse discard /mnt/repo/branch/main/air/zarr.json")
@click.argument("paths", metavar="[PATH...]", nargs=-1)
@output.as_json
def command(*, paths: tuple[str, ...], as_json: bool) -> None:
    """Take back what was changed at each PATH and below, and not committed.

    The root of a branch takes back all its changes. What was moved to a PATH goes back to
    where it was, what was removed from it is there again. PATH is by default the current
    directory.
    """
    places = [find_branch(path) for path in paths or (".",)]
    for place in places:
        if place.branch is None:
            raise InvalidInputError(
                f"{place.mount.path} is above the branches; point to one:"
                f" {place.mount.path}/branch/NAME"
            )
    by_branch: dict[tuple[str, str | None], list[InBranch]] = {}
    for place in places:
        by_branch.setdefault((place.mount.device, place.branch), []).append(place)
    for group in by_branch.values():
        names = [list(place.names) for place in group]
        told = group[0].call("discard", paths=None if [] in names else names)
        if as_json:
            output.print_json(told)
        elif not told["discarded"]:
            print(f"branch {output.plain(told['branch'])} has no changes")
        else:
            left = "some changes are left" if told["changes_left"] else "no changes are left"
            print(f"branch {output.plain(told['branch'])}: discarded; {left}")
