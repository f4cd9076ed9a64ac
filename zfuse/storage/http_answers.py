"""What HTTP answers mean to a Storage: bodies of ranges, object facts, errors by status."""

import email.utils
import re
from collections.abc import Mapping
from typing import Final

from zfuse.byterange import ByteRange
from zfuse.errors import (
    AccessDeniedError,
    ObjectNotFoundError,
    PreconditionFailedError,
    StorageError,
    TransientStorageError,
)
from zfuse.storage.base import ObjectInfo, Unmodified, Version
from zfuse.storage.http_session import HttpAnswer
from zfuse.storage.preconditions import check_etag, check_last_modified

_CONTENT_RANGE: Final = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")
_PASSING: Final = {408, 425, 429, 500, 502, 503, 504, 509, 529}


def range_headers(wanted: ByteRange, unmodified: Unmodified | None) -> dict[str, str]:
    """Return the headers that ask for *wanted* if the object is still *unmodified*.

    An empty range asks for one byte, so that the object's absence shows all the same.
    """
    headers = {"Range": f"bytes={wanted.start}-{max(wanted.stop, wanted.start + 1) - 1}"}
    if unmodified is None:
        return headers
    # If-Match never matches a weak etag; ranged_body compares those.
    if unmodified.etag is not None and not unmodified.etag.startswith("W/"):
        headers["If-Match"] = '"{}"'.format(unmodified.etag.strip('"'))
    if unmodified.last_modified is not None:
        headers["If-Unmodified-Since"] = email.utils.formatdate(
            unmodified.last_modified, usegmt=True
        )
    return headers


def ranged_body(
    name: str, answer: HttpAnswer, wanted: ByteRange, unmodified: Unmodified | None
) -> bytes:
    """Return the bytes of *wanted* out of the answer to a request with range_headers.

    Raises:
        PreconditionFailedError: the object is not what *unmodified* asks for; checked here
            too, since not every server looks at those headers.
        TransientStorageError: bytes are missing.
    """
    if unmodified is not None and answer.status in {200, 206}:
        check_unmodified(name, answer.headers, unmodified)
    match answer.status:
        case 200:
            body = answer.body  # cut to the window while it was read
        case 206:
            body = _partial_body(name, answer, wanted)
        case 416:
            return _beyond_the_end(name, answer, wanted)
        case _:
            raise status_error(name, answer)
    return body[: len(wanted)]


def _partial_body(name: str, answer: HttpAnswer, wanted: ByteRange) -> bytes:
    found = _CONTENT_RANGE.match(answer.headers.get("Content-Range", ""))
    if found is None or found[1] is None:
        raise StorageError(f"{name}: the server does not tell which range it sent")
    first, last = int(found[1]), int(found[2])
    # "*": the server does not know the size, so a short answer may be all there is.
    end = int(found[3]) if found[3] != "*" else last + 1
    if first != wanted.start or last + 1 < min(wanted.stop, end):
        raise TransientStorageError(
            f"{name}: asked for bytes {wanted.start}-{wanted.stop - 1}, got {first}-{last}"
        )
    if len(answer.body) != last + 1 - first:
        raise TransientStorageError(f"{name}: the answer broke off after {len(answer.body)} bytes")
    return answer.body


def _beyond_the_end(name: str, answer: HttpAnswer, wanted: ByteRange) -> bytes:
    found = _CONTENT_RANGE.match(answer.headers.get("Content-Range", ""))
    if found is not None and found[3] != "*" and wanted.start < int(found[3]):
        raise StorageError(f"{name}: the server refuses bytes {wanted.start}-{wanted.stop - 1}")
    return b""


def check_unmodified(name: str, headers: Mapping[str, str], wanted: Unmodified) -> None:
    """Raise PreconditionFailedError unless the headers show that the object is unmodified."""
    etag = headers.get("ETag")
    if wanted.etag is not None:
        if etag is None:
            raise PreconditionFailedError(
                f"{name}: the server tells no etag, so {wanted.etag} can not be verified"
            )
        check_etag(name, etag, wanted)
    if wanted.last_modified is not None:
        modified = last_modified_ns(headers)
        if modified is None:
            raise PreconditionFailedError(
                f"{name}: the server tells no time of the last change, so that it is unmodified "
                f"since {wanted.last_modified} can not be verified"
            )
        check_last_modified(name, modified, wanted)


def last_modified_ns(headers: Mapping[str, str]) -> int | None:
    """Return the time in Last-Modified, None if there is none."""
    try:
        parsed = email.utils.parsedate_to_datetime(headers.get("Last-Modified", ""))
    except ValueError:
        return None
    return int(parsed.timestamp()) * 1_000_000_000


def version_of(headers: Mapping[str, str]) -> Version:
    """Return the etag without quotes, else what comes nearest to one."""
    if etag := headers.get("ETag"):
        return Version(etag.strip('"'))
    return Version(f"{headers.get('Last-Modified', '')}/{headers.get('Content-Length', '')}")


def object_info(name: str, key: str, answer: HttpAnswer) -> ObjectInfo:
    """Return what the answer to a HEAD request tells; a time of 0 is an unknown one."""
    size = answer.headers.get("Content-Length")
    if size is None:
        raise StorageError(f"{name}: the server does not tell the size")
    return ObjectInfo(
        key, int(size), last_modified_ns(answer.headers) or 0, version_of(answer.headers)
    )


def status_error(name: str, answer: HttpAnswer) -> StorageError:
    """Return the error that a plain HTTP server means by this status."""
    told = f"{answer.status} {answer.reason}".strip()
    match answer.status:
        case 404 | 410:
            return ObjectNotFoundError(f"there is no {name}")
        case 401 | 403 | 407:
            return AccessDeniedError(f"{name}: access denied ({told})")
        case 412:
            return PreconditionFailedError(f"{name} changed since it was referenced")
        case status if status in _PASSING:
            return TransientStorageError(f"{name}: {told}", refused=status == 429)
        case _:
            return StorageError(f"{name}: unexpected answer {told}")
