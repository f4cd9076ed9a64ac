"""What S3's answers mean: its error codes, where a bucket is, what has expired."""

import re
from html import unescape
from typing import Final

from zfuse.errors import (
    AccessDeniedError,
    ObjectNotFoundError,
    StorageError,
    TransientStorageError,
)
from zfuse.storage.http_answers import status_error
from zfuse.storage.http_session import HttpAnswer

_REFUSED_CODES: Final = {
    "SlowDown",
    "ServiceUnavailable",
    "RequestTimeout",
    "ConditionalRequestConflict",
    "OperationAborted",
    "TooManyRequests",
    "Throttling",
    "ThrottlingException",
}
"""With these S3 says that it has not done what it was asked, and may do it later."""

_EXPIRED_CODES: Final = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"}
_ELSEWHERE_STATUSES: Final = {301, 307, 400, 403}
_HINTS: Final = {
    "SignatureDoesNotMatch": "the secret key is wrong",
    "InvalidAccessKeyId": "the access key is unknown",
    "RequestTimeTooSkewed": "set this machine's clock",
    "ExpiredToken": "log in again",
}


def _element(body: bytes, name: str) -> str | None:
    found = re.search(rf"<{name}>([^<]*)</{name}>", body.decode(errors="replace"))
    return unescape(found[1]) if found else None


def error_code(answer: HttpAnswer) -> str | None:
    """Return S3's error code; the answer to a HEAD request has none."""
    return _element(answer.body, "Code") if answer.status >= 300 else None


def bucket_region(answer: HttpAnswer) -> str | None:
    """Return the region that a refused request should have gone to."""
    if answer.status not in _ELSEWHERE_STATUSES:
        return None
    return answer.headers.get("x-amz-bucket-region") or _element(answer.body, "Region")


def expired(answer: HttpAnswer) -> bool:
    """Tell whether S3 refused the request for its credentials' age."""
    return error_code(answer) in _EXPIRED_CODES


def s3_error(
    bucket: str,
    key: str,
    answer: HttpAnswer,
    code: str | None = None,
    message: str | None = None,
) -> StorageError:
    """Return the error that *answer* means; code and message where the body is read already."""
    code = code or error_code(answer)
    message = " ".join((message or _element(answer.body, "Message") or "").split())
    name = f"s3://{bucket}/{key}"
    told = f"{code or answer.status}: {message or answer.reason}".rstrip(": ")
    if code == "NoSuchBucket":
        return ObjectNotFoundError(f"there is no bucket {bucket}: check the name and the endpoint")
    if code in _REFUSED_CODES:
        return TransientStorageError(f"{name}: {told}", refused=True)
    if code in _HINTS:
        return AccessDeniedError(f"{name}: access denied, {_HINTS[code]} ({told})")
    if answer.status in {401, 403}:
        return AccessDeniedError(
            f"{name}: access denied ({told}): check whose credentials "
            "are sent (yours; none with --anonymous) and what they may do"
        )
    if answer.status in {301, 307}:
        return StorageError(f"bucket {bucket} is in another region: pass --region ({told})")
    error = status_error(name, answer)
    return error if type(error) is not StorageError else StorageError(f"{name}: {told}")
