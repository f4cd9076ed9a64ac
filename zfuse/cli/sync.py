"""``zfuse sync``, also called ``zfuse commit``."""

import json
from collections.abc import Mapping
from typing import Any

import click

from zfuse.cli import output
from zfuse.cli.sessions import InBranch, explained, find_branch
from zfuse.errors import InvalidInputError, NotMountedError


@click.command(epilog='Example: zfuse sync /mnt/repo/branch/main -m "add June"')
@click.argument("path", required=False)
@click.option("-m", "--message", metavar="TEXT", help="What the commit does; needed.")
@click.option("--metadata", metavar="KEY=VALUE", multiple=True, help="Kept with the commit.")
@click.option("--amend", is_flag=True, help="Put the changes into the last commit.")
@click.option("--allow-empty", is_flag=True, help="Commit even if nothing changed.")
@click.option(
    "--rebase",
    type=click.Choice(["ours", "theirs"]),
    help="Whose chunks count where others wrote the same ones.",
)
@click.option("--new-branch", metavar="NAME", help="Commit to a new branch made for it.")
@output.as_json
def command(*, path: str | None, as_json: bool, **flags: Any) -> None:  # noqa: ANN401
    """Commit what was written to the branch that PATH is in, as one atomic snapshot.

    Everything that was closed before counts; files that are still being written are named
    and stay. If others committed meanwhile, changes that do not touch theirs go on top;
    else they are listed, nothing is committed, and the exit code is 5. VALUE is JSON, or
    else text. PATH is by default the current directory.
    """
    if not (flags["message"] or "").strip():
        raise InvalidInputError('say what the commit does: zfuse sync -m "..."')
    if flags["amend"] and (flags["rebase"] or flags["new_branch"]):
        raise InvalidInputError("--amend goes together with neither --rebase nor --new-branch")
    if flags["new_branch"] == "":
        raise InvalidInputError("say what the new branch is called: --new-branch NAME")
    flags["metadata"] = dict(_pair(text) for text in flags["metadata"])
    branch = find_branch(path)
    with explained(as_json=as_json, snapshot=None):
        told = _sync(branch, flags)
    if as_json:
        output.print_json(told)
        return
    _print(told)


def _sync(branch: InBranch, flags: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return branch.call("sync", **flags)
    except NotMountedError as exc:
        raise NotMountedError(
            f"{exc}; the commit may have been made: then mount again and sync, which never makes"
            " it twice"
        ) from exc


def _print(told: Mapping[str, Any]) -> None:
    if told["snapshot"] is None:
        print(f"nothing to commit on branch {output.plain(told['branch'])}")
    else:
        print(f"branch {output.plain(told['branch'])} is at {told['snapshot']} now")
    for kind, word in (("open_files", "being written, not committed"), ("untracked", "untracked")):
        for name in told[kind]:
            print(f"  {word}: {output.plain(name)}")


def _pair(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise InvalidInputError(f"--metadata {text}: write KEY=VALUE")
    try:
        return name, json.loads(value, parse_constant=_no_json)
    except ValueError:
        return name, value


def _no_json(word: str) -> None:
    raise ValueError(f"{word} is no JSON")
