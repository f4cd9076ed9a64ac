"""What the commands about sessions share: which branch is meant, and how it is told."""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from zfuse.cli import output
from zfuse.daemon.control import ReportedError, call_mount
from zfuse.daemon.mountinfo import MountPoint, find_mount, names_inside
from zfuse.errors import CrossTreeError, InvalidInputError, NotAllowedError
from zfuse.fs.names import decode_name

_ASK_S: Final = 10.0
_SHOWN: Final = 20
_PATIENCE_S: Final = 600.0
_CHANGES: Final = ("new", "updated", "deleted", "moved", "copied", "chunks", "invalid")


@dataclass(frozen=True, slots=True)
class InBranch:
    """A place in a mount: ``branch`` is None at the top of a mount of all refs.

    ``names`` lead from the root of the branch to the place, as they are shown.
    """

    mount: MountPoint
    branch: str | None
    names: tuple[str, ...]

    def call(self, command: str, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
        """Ask the daemon about the branch."""
        if self.branch is not None:
            arguments["branch"] = self.branch
        progress = Progress()
        try:
            return call_mount(
                self.mount, command, timeout_s=_PATIENCE_S, on_progress=progress, **arguments
            )
        except ReportedError as exc:
            if "knows no command" in str(exc):
                raise NotAllowedError(
                    f"{self.mount.path} can only be read; unmount it, then: zfuse mount --rw ..."
                ) from exc
            raise
        finally:
            progress.end()


class Progress:
    """Shows on a terminal how many bytes are stored."""

    def __init__(self) -> None:
        self._shows = sys.stderr.isatty()
        self._shown = False

    def __call__(self, told: Mapping[str, Any]) -> None:
        """Show what the daemon told."""
        if self._shows and told:
            done, whole = output.human_size(told["bytes"]), output.human_size(told["of_bytes"])
            print(f"\r\x1b[Kstored {done} of {whole}", end="", file=sys.stderr, flush=True)
            self._shown = True

    def end(self) -> None:
        """Clear the line."""
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def find_branch(path: str | None) -> InBranch:
    """Find the branch that *path* is in, by default the current directory.

    Raises:
        NotMountedError: it is in no mount.
        NotAllowedError: it is in a tag, a snapshot, or another part that only can be read.
        InvalidInputError: *path* is empty, as a variable is that nobody set.
    """
    if path == "":
        raise InvalidInputError("an empty text is no path; the current directory is .")
    place = Path(os.path.abspath(path or "."))
    mount = find_mount(place)
    settings = call_mount(mount, "config", timeout_s=_ASK_S)
    inside = names_inside(place, mount)
    ref = settings["ref"]
    if ref is not None:
        if ref["kind"] != "branch":
            raise NotAllowedError(f"{mount.path} shows {ref['kind']}/{ref['name']}, which is fixed")
        return InBranch(mount, ref["name"], inside)
    match inside:
        case ():
            return InBranch(mount, None, ())
        case ("branch", shown, *names):
            return InBranch(mount, decode_name(shown) or shown, tuple(names))
        case _:
            raise NotAllowedError(f"{place} is in no branch; only branches change")


def same_branch(source: str, target: str) -> tuple[InBranch, InBranch]:
    """Find two places of one branch, the second for a node.

    Raises:
        CrossTreeError: they are not.
        NotAllowedError: the second is in an array, which holds no nodes.
    """
    places = find_branch(source), find_branch(target)
    if (places[0].mount, places[0].branch) != (places[1].mount, places[1].branch):
        raise CrossTreeError(f"{source} and {target} are not in one branch of one mount")
    if not places[0].names:
        raise InvalidInputError(f"{source} is the root of a branch, which stays where it is")
    above = Path(os.path.abspath(target)).parent
    if _is_array(above):
        raise NotAllowedError(f"{above} is an array, and holds no nodes; choose a group")
    return places


def _is_array(directory: Path) -> bool:
    """Tell whether *directory* is that of an array, by its zarr.json."""
    try:
        document = json.loads((directory / "zarr.json").read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(document, dict) and document.get("node_type") == "array"


def settle_changes(mount: MountPoint, choice: str | None, message: str | None) -> list[str]:
    """Commit or discard the changes of a mount before it ends; return the branches left with some.

    Raises:
        ConflictError, StorageError: a commit failed; the mount stays.
    """
    # Not "changes": what they are may take a store to tell, which may be down.
    told = call_mount(mount, "status", timeout_s=_ASK_S)["sessions"]
    branches = [session["branch"] for session in told if session["has_changes"]]
    if choice not in {"sync", "discard"}:
        return branches
    left = []
    for branch in branches:
        arguments = {"message": message} if choice == "sync" else {}
        done = InBranch(mount, branch, ()).call(choice, **arguments)
        if done["changes_left"]:
            left.append(branch)
    return left


def print_changes(told: Mapping[str, Any], *, nothing: str) -> None:
    """Print changes, a line each, the most telling first; *nothing* where there are none."""
    for kind, word in (("new", "new"), ("updated", "updated"), ("deleted", "deleted")):
        _print_some(word, told[kind])
    _print_some("moved", [f"{m['from']} -> {m['to']}" for m in told["moved"]])
    _print_some("copied", [f"{m['from']} -> {m['to']}" for m in told["copied"]])
    _print_some("chunks", [_chunks(each) for each in told["chunks"]])
    _print_some("untracked", told["untracked"])
    _print_some("being written", told["open_files"])
    _print_some("invalid", [f"{each['path']}: {each['reason']}" for each in told["invalid"]])
    if not has_changes(told):
        print(f"  {nothing}")


def has_changes(told: Mapping[str, Any]) -> bool:
    """Tell whether a diff names anything that a commit would take along, or refuse."""
    return any(told[kind] for kind in _CHANGES)


def _chunks(told: Mapping[str, Any]) -> str:
    counts = [f"{told[word]} {word}" for word in ("written", "deleted") if told[word]]
    return f"{told['path']}: {', '.join(counts)}"


def _print_some(word: str, items: Sequence[str]) -> None:
    rows = [(f"  {word}:", item) for item in items[:_SHOWN]]
    if len(items) > _SHOWN:
        rows.append((f"  {word}:", f"and {len(items) - _SHOWN} more; --json names all"))
    output.print_table(rows)


@contextmanager
def explained(*, as_json: bool, **facts: Any) -> Iterator[None]:  # noqa: ANN401 - JSON
    """Tell all that a daemon knows of a failure of the block, beyond the one line of the error.

    As JSON together with *facts*, else a line each on standard error.
    """
    try:
        yield
    except ReportedError as exc:
        if as_json:
            output.print_json({**facts, "error": str(exc), **exc.details})
        else:
            _describe_failure(exc)
        if "commit to a new branch" not in str(exc):
            raise
        way = "zfuse sync --new-branch NAME"
        if exc.details.get("conflicts"):
            rebase = "--rebase ours|theirs or " if exc.details.get("solvable") else ""
            way = f"zfuse sync {rebase}--new-branch NAME, or zfuse discard PATH"
        raise ReportedError(f"{exc}: {way}", exc.exit_code) from exc


def _describe_failure(exc: ReportedError) -> None:
    for each in exc.details.get("invalid", ()):
        print(
            f"  invalid: {output.plain(each['path'])}: {output.plain(each['reason'])}",
            file=sys.stderr,
        )
    for each in exc.details.get("conflicts", ()):
        print(f"  conflict: {output.plain(_conflict(each))}", file=sys.stderr)


def _conflict(told: Mapping[str, Any]) -> str:
    chunks = told["chunks"]
    which = ""
    if chunks:
        shown = ", ".join("/".join(map(str, coords)) or "()" for coords in chunks[:_SHOWN])
        left = told["chunk_count"] - min(len(chunks), _SHOWN)
        which = f", chunks {shown}{f' and {left} more' if left else ''}"
    who = ""
    if told["snapshot"] is not None:
        who = f" (by {told['snapshot']}, {output.utc(told['committed_at_us'])}: {told['message']})"
    return f"{told['path'] or 'moved nodes'}: {told['kind'].replace('_', ' ')}{which}{who}"
