"""The comparison behind conditional reads, for stores that leave it to us."""

from zfuse.errors import PreconditionFailedError
from zfuse.storage.base import Unmodified


def check_last_modified(name: str, last_modified_ns: int, wanted: Unmodified) -> None:
    """Raise PreconditionFailedError if the object is younger than *wanted* allows.

    The official library compares fractions of a second with the whole seconds it stored, and
    so takes an untouched local file for a changed one; here the second as a whole counts.
    """
    if wanted.last_modified is None:
        return
    modified = last_modified_ns // 1_000_000_000
    if modified > wanted.last_modified:
        raise PreconditionFailedError(
            f"{name} changed since it was referenced: modified at {modified} "
            f"(seconds since 1970), referenced as of {wanted.last_modified}"
        )


def check_etag(name: str, etag: str, wanted: Unmodified) -> None:
    """Raise PreconditionFailedError if *etag* is not the wanted one; quotes do not count."""
    if wanted.etag is not None and wanted.etag.strip('"') != etag.strip('"'):
        raise PreconditionFailedError(
            f"{name} changed since it was referenced: etag {etag}, referenced as {wanted.etag}"
        )
