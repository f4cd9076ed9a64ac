"""The ``zfuse`` command: finds the subcommand, and turns errors into one line and an exit code.

Subcommands are imported when they are called: ``zfuse mount`` must not wait for what only
``zfuse tree`` needs.
"""

import difflib
import importlib
import os
import sys
import traceback
from typing import Final, NoReturn

import click

from zfuse.cli import output
from zfuse.errors import ZfuseError

COMMANDS: Final = {
    "mount": "Show a repository as a directory.",
    "umount": "End a mount.",
    "list": "List the mounts of this machine.",
    "status": "Say what a mount shows and how it is doing.",
    "sync": "Commit what was written to a branch.",
    "commit": "Another name of sync.",
    "diff": "Show what changed since a commit, or between two refs.",
    "discard": "Take back what was not committed.",
    "recover": "List the sessions on this machine, save the files of one.",
    "mv": "Move a group or array, without copying chunks.",
    "move": "Another name of mv.",
    "cp": "Copy a group or array, without copying chunks.",
    "refresh": "Let the branches of a mount move to the newest snapshot.",
    "branch": "List, make, delete and move branches.",
    "tag": "List, make and delete tags.",
    "container": "List, declare and remove the places of virtual chunks.",
    "config": "Show and change settings.",
    "log": "Show the history of a ref.",
    "ops-log": "Show every change of a repository.",
    "show": "Show a snapshot, or all refs of a repository.",
    "ls": "List the nodes of a group.",
    "tree": "Draw the hierarchy below a group.",
    "cat": "Print the bytes of a zarr.json or a chunk.",
    "info": "Describe a group or an array.",
    "create": "Make an empty repository.",
    "ingest": "Reference data in other formats, without copying it.",
    "materialize": "Turn virtual chunks into chunks of the repository.",
    "fsck": "Check that a repository is sound.",
    "stats": "Tell how much a repository holds.",
    "expire": "Take old snapshots out of the history.",
    "gc": "Delete what no version of a repository needs.",
    "rewrite-manifests": "Split the manifests of a branch as the settings say now.",
    "upgrade": "Make a repository of version 1 one of version 2.",
    "doctor": "Find out what is wrong on this machine.",
}
"""Every subcommand, and the line that ``zfuse --help`` has for it."""

_BUG: Final = 1
_USAGE: Final = 2
_INTERRUPTED: Final = 130
_BROKEN_PIPE: Final = 141


class LazyGroup(click.Group):
    """A group whose commands are modules of this package, imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"zfuse.cli.{cmd_name.replace('-', '_')}").command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that *args* start with, or fail with the nearest name."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], COMMANDS, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            ctx.fail(f"no command {args[0]!r}{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: zfuse mount s3://bucket/repo /mnt/repo",
)
@click.version_option(package_name="zfuse", message="%(prog)s %(version)s")
def zfuse() -> None:
    """Mount Icechunk repositories: every branch, tag and snapshot as a directory of Zarr files."""


def main() -> NoReturn:
    """Run the command line and exit."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str], command: click.Command = zfuse) -> int:
    """Run *command* and return its exit code; errors are one line on standard error."""
    try:
        # Not command.main(): click would deal with interrupts and closed pipes in its own way.
        with command.make_context("zfuse", arguments) as context:
            result = command.invoke(context)
        sys.stdout.flush()
    except BaseException as exc:  # noqa: BLE001 - the one place where every error ends
        return _report(exc)
    return result if isinstance(result, int) else 0


def _report(exc: BaseException) -> int:
    """Print what *exc* says, if it says anything, and return its exit code."""
    exc = most_telling(exc)
    message, status = _explain(exc)
    if _debugging() and message:
        traceback.print_exception(exc)
    if message:
        print(f"zfuse: {output.plain(' '.join(message.split()))}", file=sys.stderr)
    return status


def _explain(exc: BaseException) -> tuple[str, int]:
    """Return what to say of *exc*, "" for nothing, and the exit code."""
    message, status = "", _BUG
    match exc:
        case ZfuseError():
            message, status = str(exc) or type(exc).__name__, exc.exit_code
        case click.exceptions.NoArgsIsHelpError():
            exc.show()
            status = _USAGE
        case click.ClickException():
            context = exc.ctx if isinstance(exc, click.UsageError) else None
            message, status = exc.format_message().rstrip("."), _USAGE
            if context is not None and "--help" not in message:
                message += f"; see {context.command_path} --help"
        case click.exceptions.Exit():
            status = exc.exit_code
        case KeyboardInterrupt() | click.Abort():
            status = _INTERRUPTED
        case BrokenPipeError():
            # Python would complain once more when it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            status = _BROKEN_PIPE
        case _:
            how = "" if _debugging() else "; run again with ZFUSE_DEBUG=1 for the traceback"
            what = "".join(traceback.format_exception_only(exc))
            message = f"this is a bug in zfuse: {what}{how}"
    return message, status


def most_telling(exc: BaseException) -> BaseException:
    """Return *exc*, or of a group (of a nursery) the one error that says why it ended."""
    leaves: list[BaseException] = []
    pending = [exc]
    while pending:
        exc = pending.pop()
        if isinstance(exc, BaseExceptionGroup):
            pending.extend(exc.exceptions)
        else:
            leaves.append(exc)
    unexpected = [e for e in leaves if not isinstance(e, ZfuseError)]
    interrupts = [e for e in unexpected if isinstance(e, KeyboardInterrupt)]
    return next(iter(interrupts or unexpected or leaves))


def _debugging() -> bool:
    return bool(os.environ.get("ZFUSE_DEBUG"))
