"""``zfuse recover``."""

from pathlib import Path

import click

from zfuse.cli import output
from zfuse.cli.serving import state_directory
from zfuse.errors import AlreadyExistsError, InvalidInputError, NotFoundError
from zfuse.fs.kept_files import KeptFiles, find_sessions


@click.command(epilog="Example: zfuse recover 1 /tmp/rescued")
@click.argument("number", required=False, type=int)
@click.argument("directory", metavar="[DIR]", required=False)
@click.option("--journal", metavar="DIR", help="Where sessions are kept [~/.local/state/zfuse].")
@click.option("--delete", is_flag=True, help="Forget the session for ever instead.")
@output.as_json
def command(
    *, number: int | None, directory: str | None, journal: str | None, delete: bool, as_json: bool
) -> None:
    """List the sessions that are kept on this machine, mounted or not.

    As a rule nothing is to be done: the next zfuse mount --rw of the repository goes on with
    its sessions. With NUMBER and DIR the files of one are saved to a new directory, whatever
    became of the repository: what was written, not what the branch had before.
    """
    state = state_directory() if journal is None else Path(journal).expanduser().absolute()
    sessions = find_sessions(state)
    if number is None:
        _list(sessions, state, as_json=as_json)
        return
    if not 1 <= number <= len(sessions):
        raise NotFoundError(f"there is no session {number}; zfuse recover lists them")
    session = sessions[number - 1]
    if delete:
        _forget(session, as_json=as_json)
    elif directory is None:
        raise InvalidInputError(f"say where to: zfuse recover {number} DIR")
    else:
        _save(session, Path(directory).absolute(), as_json=as_json)


def _forget(session: KeptFiles, *, as_json: bool) -> None:
    session.forget()
    if as_json:
        output.print_json({"deleted": str(session.directory)})
        return
    print(f"forgot {session.repository} branch {output.plain(session.branch)}")


def _save(session: KeptFiles, target: Path, *, as_json: bool) -> None:
    if target.exists():
        raise AlreadyExistsError(f"{target} exists; name a new directory")
    try:
        saved, left = session.save(target)
    except OSError as exc:
        place = exc.filename2 or exc.filename or target
        raise InvalidInputError(
            f"can not save to {place}: {exc.strerror}; name a new directory elsewhere"
        ) from exc
    if as_json:
        told = {"directory": str(target), "files": saved, "left_in_repository": left}
        output.print_json(told)
        return
    print(f"saved {output.count(saved, 'file')} to {output.plain(str(target))}")
    if left:
        print(f"  left out: {output.count(left, 'chunk')} that the repository has")


def _list(sessions: list[KeptFiles], state: Path, *, as_json: bool) -> None:
    rows = []
    for number, session in enumerate(sessions, 1):
        if as_json:
            output.print_json({"number": number, **session.facts()})
            continue
        kept = "in use" if session.is_in_use else "kept"
        size = output.human_size(session.nbytes)
        place = f"{session.repository} branch {session.branch}"
        what = (output.count(session.files, "file"), size)
        if session.damage is not None:
            what = ("damaged", session.damage)
        rows.append((str(number), place, kept, *what))
    output.print_table(rows)
    if not sessions and not as_json:
        print(f"there are no sessions in {output.plain(str(state))}; --journal looks elsewhere")
