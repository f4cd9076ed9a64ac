"""Credentials for Google Cloud Storage and Azure, under the official library's names.

zfuse reaches neither yet; programs that make such credentials run up to where a store that
needs them is opened.
"""

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class GcsBearerCredential:
    """A token for Google Cloud Storage."""

    bearer: str
    expires_after: datetime | None = None


@dataclass(frozen=True, slots=True)
class GcsStaticCredentials:
    """A key for Google Cloud Storage: the kind of it, and the key or where it is."""

    kind: str
    value: str


@dataclass(frozen=True, slots=True)
class GcsCredentials:
    """Credentials for Google Cloud Storage: ``anonymous``, ``env``, ``static``, ``refreshable``."""

    kind: str
    static: GcsStaticCredentials | None = None
    pickled_function: bytes | None = None


@dataclass(frozen=True, slots=True)
class AzureStaticCredentials:
    """A key for Azure: the kind of it, and the key."""

    kind: str
    value: str


@dataclass(frozen=True, slots=True)
class AzureRefreshableCredential:
    """A key for Azure that expires."""

    kind: str
    value: str
    expires_after: datetime | None = None


@dataclass(frozen=True, slots=True)
class AzureCredentials:
    """Credentials for Azure: ``anonymous``, ``env``, ``static`` or ``refreshable``."""

    kind: str
    static: AzureStaticCredentials | None = None
    pickled_function: bytes | None = None


AnyGcsCredential = GcsCredentials
AnyGcsStaticCredential = GcsStaticCredentials
AnyAzureCredential = AzureCredentials
AnyAzureStaticCredential = AzureStaticCredentials


def gcs_static_credentials(
    *,
    service_account_file: str | None = None,
    service_account_key: str | None = None,
    application_credentials: str | None = None,
    bearer_token: str | None = None,
) -> GcsStaticCredentials:
    """Return the one key that is given.

    Raises:
        ValueError: it is none, or more than one.
    """
    kind, value = _only(
        "gcs_static_credentials",
        service_account_file=service_account_file,
        service_account_key=service_account_key,
        application_credentials=application_credentials,
        bearer_token=bearer_token,
    )
    return GcsStaticCredentials(kind, value)


def gcs_refreshable_credentials(
    get_credentials: Callable[[], GcsBearerCredential],
    scatter_initial_credentials: bool = False,  # noqa: FBT001, FBT002 - official signature
) -> GcsCredentials:
    """Return credentials that *get_credentials* is asked for."""
    return GcsCredentials("refreshable", pickled_function=pickle.dumps(get_credentials))


def gcs_anonymous_credentials() -> GcsCredentials:
    """Return credentials for public data."""
    return GcsCredentials("anonymous")


def gcs_from_env_credentials() -> GcsCredentials:
    """Return credentials that are in the environment."""
    return GcsCredentials("env")


def gcs_credentials(  # noqa: PLR0913 - the official signature
    *,
    service_account_file: str | None = None,
    service_account_key: str | None = None,
    application_credentials: str | None = None,
    bearer_token: str | None = None,
    from_env: bool | None = None,
    anonymous: bool | None = None,
    get_credentials: Callable[[], GcsBearerCredential] | None = None,
    scatter_initial_credentials: bool = False,
) -> GcsCredentials:
    """Return credentials of the kind that the arguments belong to, from_env without any.

    Raises:
        ValueError: they belong to more than one kind.
    """
    keys = (service_account_file, service_account_key, application_credentials, bearer_token)
    if any(key is not None for key in keys):
        static = gcs_static_credentials(
            service_account_file=service_account_file,
            service_account_key=service_account_key,
            application_credentials=application_credentials,
            bearer_token=bearer_token,
        )
        return GcsCredentials("static", static)
    if get_credentials is not None:
        return gcs_refreshable_credentials(get_credentials, scatter_initial_credentials)
    _check_one("gcs_credentials", anonymous, from_env)
    return GcsCredentials("anonymous" if anonymous else "env")


def azure_static_credentials(
    *,
    access_key: str | None = None,
    sas_token: str | None = None,
    bearer_token: str | None = None,
) -> AzureStaticCredentials:
    """Return the one key that is given.

    Raises:
        ValueError: it is none, or more than one.
    """
    kind, value = _only(
        "azure_static_credentials",
        access_key=access_key,
        sas_token=sas_token,
        bearer_token=bearer_token,
    )
    return AzureStaticCredentials(kind, value)


def azure_refreshable_credentials(
    get_credentials: Callable[[], AzureRefreshableCredential],
    scatter_initial_credentials: bool = False,  # noqa: FBT001, FBT002 - official signature
) -> AzureCredentials:
    """Return credentials that *get_credentials* is asked for."""
    return AzureCredentials("refreshable", pickled_function=pickle.dumps(get_credentials))


def azure_from_env_credentials() -> AzureCredentials:
    """Return credentials that are in the environment."""
    return AzureCredentials("env")


def azure_anonymous_credentials() -> AzureCredentials:
    """Return credentials for public data."""
    return AzureCredentials("anonymous")


def azure_credentials(  # noqa: PLR0913 - the official signature
    *,
    access_key: str | None = None,
    sas_token: str | None = None,
    bearer_token: str | None = None,
    from_env: bool | None = None,
    anonymous: bool | None = None,
    get_credentials: Callable[[], AzureRefreshableCredential] | None = None,
    scatter_initial_credentials: bool = False,
) -> AzureCredentials:
    """Return credentials of the kind that the arguments belong to, from_env without any.

    Raises:
        ValueError: they belong to more than one kind.
    """
    if any(key is not None for key in (access_key, sas_token, bearer_token)):
        static = azure_static_credentials(
            access_key=access_key, sas_token=sas_token, bearer_token=bearer_token
        )
        return AzureCredentials("static", static)
    if get_credentials is not None:
        return azure_refreshable_credentials(get_credentials, scatter_initial_credentials)
    _check_one("azure_credentials", anonymous, from_env)
    return AzureCredentials("anonymous" if anonymous else "env")


def _check_one(function: str, *given: bool | None) -> None:
    if sum(map(bool, given)) > 1:
        raise ValueError(f"Conflicting arguments to {function} function")


def _only(function: str, **given: str | None) -> tuple[str, str]:
    found = [(kind, value) for kind, value in given.items() if value is not None]
    if len(found) != 1:
        raise ValueError(f"Conflicting arguments to {function} function")
    return found[0]
