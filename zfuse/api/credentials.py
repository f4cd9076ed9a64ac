"""Whose credentials are sent to a store, under the official library's names.

zfuse reaches stores that speak S3, web servers and directories; credentials for others can be
made, and the stores that would need them say that zfuse has none of their kind.
"""

import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Final

from zfuse.api.cloud_credentials import AzureCredentials, GcsCredentials
from zfuse.api.nested import nest


@dataclass(slots=True)
class S3StaticCredentials:
    """An access key; ``expires_after`` says until when it is good."""

    access_key_id: str
    secret_access_key: str
    session_token: str | None = None
    expires_after: datetime | None = None

    def __repr__(self) -> str:
        return f"S3StaticCredentials(access_key_id={self.access_key_id!r})"


class S3Credentials:
    """Credentials for a store that speaks S3: one of the classes below."""

    FromEnv: ClassVar[type["_S3FromEnv"]]
    Anonymous: ClassVar[type["_S3Anonymous"]]
    Static: ClassVar[type["_S3Static"]]
    Refreshable: ClassVar[type["_S3Refreshable"]]


@dataclass(frozen=True, slots=True)
class _S3FromEnv(S3Credentials):
    """Whatever botocore finds."""


@dataclass(frozen=True, slots=True)
class _S3Anonymous(S3Credentials):
    """None: requests are not signed."""


@dataclass(frozen=True, slots=True)
class _S3Static(S3Credentials):
    """An access key."""

    credentials: S3StaticCredentials


@dataclass(frozen=True, slots=True)
class _S3Refreshable(S3Credentials):
    """What a function returns, which is asked again before that expires.

    The function is pickled, so that these credentials go to other processes; ``current`` is
    what it returned before, and is not used: other processes ask by themselves.
    """

    pickled_function: bytes
    current: S3StaticCredentials | None = None


nest(
    S3Credentials,
    FromEnv=_S3FromEnv,
    Anonymous=_S3Anonymous,
    Static=_S3Static,
    Refreshable=_S3Refreshable,
)


AnyS3Credential = _S3Static | _S3Anonymous | _S3FromEnv | _S3Refreshable


class Credentials:
    """Credentials for any kind of store: one of the classes below."""

    S3: ClassVar[type["_ForS3"]]
    Gcs: ClassVar[type["_ForGcs"]]
    Azure: ClassVar[type["_ForAzure"]]
    LocalFileSystemAccess: ClassVar[type["_ForFiles"]]
    HttpAccess: ClassVar[type["_ForHttp"]]


@dataclass(frozen=True, slots=True)
class _ForS3(Credentials):
    """For stores that speak S3."""

    credentials: AnyS3Credential


@dataclass(frozen=True, slots=True)
class _ForGcs(Credentials):
    """For Google Cloud Storage."""

    credentials: GcsCredentials


@dataclass(frozen=True, slots=True)
class _ForAzure(Credentials):
    """For Azure Blob Storage."""

    credentials: AzureCredentials


@dataclass(frozen=True, slots=True)
class _ForFiles(Credentials):
    """Says that files of this machine may be read."""


@dataclass(frozen=True, slots=True)
class _ForHttp(Credentials):
    """Says that a web server may be asked."""


nest(
    Credentials,
    S3=_ForS3,
    Gcs=_ForGcs,
    Azure=_ForAzure,
    LocalFileSystemAccess=_ForFiles,
    HttpAccess=_ForHttp,
)

AnyCredential = _ForS3 | _ForGcs | _ForAzure | _ForFiles | _ForHttp

LocalFileSystemAccess: Final = _ForFiles()
HttpAccess: Final = _ForHttp()


def s3_refreshable_credentials(
    get_credentials: Callable[[], S3StaticCredentials],
    scatter_initial_credentials: bool = False,  # noqa: FBT001, FBT002 - the official signature
) -> _S3Refreshable:
    """Return credentials that *get_credentials*, which can be pickled, is asked for.

    With *scatter_initial_credentials* it is asked now, and other processes start with that.
    """
    current = get_credentials() if scatter_initial_credentials else None
    return _S3Refreshable(pickle.dumps(get_credentials), current)


def s3_static_credentials(
    *,
    access_key_id: str,
    secret_access_key: str,
    session_token: str | None = None,
    expires_after: datetime | None = None,
) -> _S3Static:
    """Return credentials that are an access key."""
    return _S3Static(
        S3StaticCredentials(access_key_id, secret_access_key, session_token, expires_after)
    )


def s3_anonymous_credentials() -> _S3Anonymous:
    """Return credentials for public data."""
    return _S3Anonymous()


def s3_from_env_credentials() -> _S3FromEnv:
    """Return credentials that botocore finds, as in the environment."""
    return _S3FromEnv()


def s3_credentials(  # noqa: PLR0913 - the official signature
    *,
    access_key_id: str | None = None,
    secret_access_key: str | None = None,
    session_token: str | None = None,
    expires_after: datetime | None = None,
    anonymous: bool | None = None,
    from_env: bool | None = None,
    get_credentials: Callable[[], S3StaticCredentials] | None = None,
    scatter_initial_credentials: bool = False,
) -> AnyS3Credential:
    """Return credentials of the kind that the arguments belong to, from_env without any.

    Raises:
        ValueError: they belong to more than one kind.
    """
    key = (access_key_id, secret_access_key, session_token, expires_after)
    kinds = (bool(anonymous), bool(from_env), get_credentials is not None, any(key))
    match kinds:
        case (True, False, False, False):
            return _S3Anonymous()
        case (False, _, False, False):
            return _S3FromEnv()
        case (False, False, True, False) if get_credentials is not None:
            return s3_refreshable_credentials(get_credentials, scatter_initial_credentials)
        case (False, False, False, True) if access_key_id and secret_access_key:
            return _S3Static(
                S3StaticCredentials(access_key_id, secret_access_key, session_token, expires_after)
            )
        case _:
            raise ValueError("Conflicting arguments to s3_credentials function")


def containers_credentials(
    m: Mapping[str, "AnyS3Credential | GcsCredentials | AzureCredentials | AnyCredential | None"],
) -> dict[str, AnyCredential | None]:
    """Return by the URL prefix of each container whose credentials are sent there.

    Raises:
        ValueError: a value is no credentials.
    """
    return {prefix: _for_any(credentials) for prefix, credentials in m.items()}


def _for_any(credentials: object) -> AnyCredential | None:
    match credentials:
        case None:
            return None
        case _S3Static() | _S3Anonymous() | _S3FromEnv() | _S3Refreshable():
            return _ForS3(credentials)
        case GcsCredentials():
            return _ForGcs(credentials)
        case AzureCredentials():
            return _ForAzure(credentials)
        case _ForS3() | _ForGcs() | _ForAzure() | _ForFiles() | _ForHttp():
            return credentials
        case _:
            raise ValueError(f"Unknown credential type {type(credentials)}")
