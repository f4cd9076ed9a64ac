"""``zfuse tree``."""

from collections.abc import Iterator
from typing import Any

import click
import trio

from zfuse.cli import output
from zfuse.cli.nodes import describe, summary
from zfuse.cli.options import ref_options, storage_options
from zfuse.cli.target import Place, Target, find_target, locate, opened, require_directory
from zfuse.repo.view import HierarchyView, join


@click.command(epilog="Example: zfuse tree /mnt/repo/branch/main")
@click.argument("target", metavar="[REPO|PATH]", required=False)
@click.argument("node", required=False)
@click.option("-L", "--level", type=click.IntRange(1), help="Go down so many levels at most.")
@ref_options
@storage_options
@output.as_json
def command(
    *,
    target: str | None,
    node: str | None,
    level: int | None,
    as_json: bool,
    **flags: Any,  # noqa: ANN401
) -> None:
    """Draw what is below a group (NODE, default the root) of a repository, or name an array.

    PATH is a path inside a mount, by default the current directory.
    """
    place = trio.run(_find, find_target(target, flags), node)
    most = level or 1000
    if as_json:
        for path in _walk(place.view, place.path, most):
            output.print_json(describe(place.view, path))
        return
    described = describe(place.view, place.path)
    what = f"  {summary(described)}" if described["kind"] == "array" else ""
    print(output.plain(f"{place.ref} {place.snapshot_id} {place.path}{what}"))
    for line in _draw(place.view, place.path, most, ""):
        print(line)


async def _find(target: Target, node: str | None) -> Place:
    async with opened(target) as repository:
        place = await locate(repository, target, node)
        require_directory(place)
        return place


def _walk(view: HierarchyView, path: str, levels: int) -> Iterator[str]:
    yield path
    for name in sorted(view.children(path)) if levels else ():
        yield from _walk(view, join(path, name), levels - 1)


def _draw(view: HierarchyView, path: str, levels: int, margin: str) -> Iterator[str]:
    names = sorted(view.children(path)) if levels else []
    for name in names:
        child = join(path, name)
        branch, below = ("└── ", "    ") if name == names[-1] else ("├── ", "│   ")
        described = describe(view, child)
        text = output.styled(name, bold=described["kind"] != "array")
        what = f"  {output.plain(summary(described))}" if described["kind"] != "group" else ""
        yield f"{margin}{branch}{text}{what}"
        yield from _draw(view, child, levels - 1, margin + below)
