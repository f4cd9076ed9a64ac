"""Where a repository is, under the official library's names: values that open nothing yet."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NoReturn

from zfuse.api import exceptions
from zfuse.api.boundary import run, translated
from zfuse.api.config import (
    StorageConcurrencySettings,
    StorageRetriesSettings,
    StorageSettings,
    StorageTimeoutSettings,
)
from zfuse.api.credentials import (
    AnyS3Credential,
    S3StaticCredentials,
    s3_credentials,
)
from zfuse.api.error_kind import ErrorKind
from zfuse.api.listing import described
from zfuse.api.object_stores import (
    AnyObjectStoreConfig,
    ChecksumAlgorithm,
    ObjectStoreConfig,
    S3Options,
    azure_store,
    gcs_store,
    http_store,
    local_filesystem_store,
    s3_store,
)
from zfuse.api.opener import opener, s3_options
from zfuse.api.values import ChunkType
from zfuse.storage.base import Storage as EngineStorage
from zfuse.storage.memory import MemoryStorage
from zfuse.storage.open import parse_location

__all__ = [
    "AnyObjectStoreConfig",
    "ChecksumAlgorithm",
    "ChunkType",
    "ObjectStoreConfig",
    "S3Options",
    "Storage",
    "StorageConcurrencySettings",
    "StorageRetriesSettings",
    "StorageSettings",
    "StorageTimeoutSettings",
    "azure_storage",
    "azure_store",
    "gcs_storage",
    "gcs_store",
    "hf_storage",
    "http_storage",
    "http_store",
    "in_memory_storage",
    "local_filesystem_storage",
    "local_filesystem_store",
    "r2_storage",
    "redirect_storage",
    "s3_object_store_storage",
    "s3_storage",
    "s3_store",
    "tigris_storage",
]

_R2_ENDPOINT: Final = "https://{account_id}.r2.cloudflarestorage.com"
_TIGRIS_ENDPOINT: Final = "https://t3.storage.dev"


@dataclass(frozen=True, slots=True)
class Storage:
    """The place of a repository; ``open`` returns what reads and writes there.

    One in memory is there as long as this value is, and stays in this process.
    """

    location: str
    credentials: AnyS3Credential | None = None
    options: S3Options | None = None
    _memory: MemoryStorage | None = field(default=None, repr=False)

    async def open(self) -> EngineStorage:
        """Return the storage for the trio world of this process."""
        if self._memory is not None:
            return self._memory
        options = s3_options(self.options or S3Options(), self.credentials)
        return await opener().open(self.location, options)

    def __reduce__(self) -> tuple[Callable[..., "Storage"], tuple[object, ...]]:
        if self._memory is not None:
            raise TypeError("cannot pickle a storage in memory: other processes can not see it")
        return Storage, (self.location, self.credentials, self.options)

    def default_settings(self) -> StorageSettings:
        """Return the settings that a repository there has if nobody says otherwise."""
        return StorageSettings()

    def list_objects(
        self, settings: StorageSettings | None = None, prefix: str | None = None
    ) -> list[tuple[str, int]]:
        """Return the keys that start with *prefix*, each with its size in bytes."""

        async def listed() -> list[tuple[str, int]]:
            storage = await self.open()
            return sorted([(info.key, info.size) async for info in storage.list(prefix or "")])

        return run(listed)

    def __repr__(self) -> str:
        return described("Storage", location=self.location)


def in_memory_storage() -> Storage:
    """Return a storage of its own in the memory of this process."""
    return Storage("memory://", _memory=MemoryStorage())


def local_filesystem_storage(path: str | Path) -> Storage:
    """Return the storage in a directory; one that is not there yet is made when written to."""
    return Storage(str(Path(path).absolute()))


def http_storage(
    base_url: str, opts: dict[str, str] | None = None, headers: dict[str, str] | None = None
) -> Storage:
    """Return the storage behind a web server, which can be read only."""
    _refuse(opts=opts, headers=headers)
    with translated():
        parse_location(base_url)
    return Storage(base_url.rstrip("/"))


def s3_storage(  # noqa: PLR0913 - the official signature
    *,
    bucket: str,
    prefix: str | None,
    region: str | None = None,
    endpoint_url: str | None = None,
    allow_http: bool = False,
    access_key_id: str | None = None,
    secret_access_key: str | None = None,
    session_token: str | None = None,
    expires_after: datetime | None = None,
    anonymous: bool | None = None,
    from_env: bool | None = None,
    get_credentials: Callable[[], S3StaticCredentials] | None = None,
    scatter_initial_credentials: bool = False,
    force_path_style: bool = False,
    network_stream_timeout_seconds: int = 60,
    requester_pays: bool = False,
    checksum_algorithm: ChecksumAlgorithm | None = None,
    legacy_rooted_keys: bool | None = None,
    read_headers: dict[str, str] | None = None,
    write_headers: dict[str, str] | None = None,
    headers: dict[str, str] | None = None,
) -> Storage:
    """Return the storage below *prefix* of a bucket in S3, or in what speaks its language.

    Raises:
        ValueError: credentials of several kinds are given.
        InvalidInputError: there is something that zfuse can not do: headers of one's own.
    """
    _refuse(
        read_headers=read_headers,
        write_headers=write_headers,
        headers=headers,
        checksum_algorithm=checksum_algorithm,
        legacy_rooted_keys=legacy_rooted_keys,
    )
    credentials = s3_credentials(
        access_key_id=access_key_id,
        secret_access_key=secret_access_key,
        session_token=session_token,
        expires_after=expires_after,
        anonymous=anonymous,
        from_env=from_env,
        get_credentials=get_credentials,
        scatter_initial_credentials=scatter_initial_credentials,
    )
    options = S3Options(
        region=region,
        endpoint_url=endpoint_url,
        allow_http=allow_http,
        anonymous=bool(anonymous),
        force_path_style=force_path_style,
        network_stream_timeout_seconds=network_stream_timeout_seconds,
        requester_pays=requester_pays,
    )
    return _s3(bucket, prefix, options, credentials)


def _s3(
    bucket: str, prefix: str | None, options: S3Options, credentials: AnyS3Credential
) -> Storage:
    location = f"s3://{bucket}/{(prefix or '').strip('/')}".rstrip("/")
    with translated():
        parse_location(location)
    return Storage(location, credentials, options)


def s3_object_store_storage(*, bucket: str, prefix: str | None, **options: Any) -> Storage:  # noqa: ANN401
    """Return the same storage as ``s3_storage``: zfuse has one client for S3."""
    return s3_storage(bucket=bucket, prefix=prefix, **options)


def tigris_storage(
    *,
    bucket: str,
    prefix: str | None,
    use_weak_consistency: bool = False,
    endpoint_url: str | None = None,
    **options: Any,  # noqa: ANN401 - those of s3_storage
) -> Storage:
    """Return a storage in Tigris; the other arguments are those of ``s3_storage``."""
    _refuse(use_weak_consistency=use_weak_consistency)
    options.setdefault("region", "auto")
    endpoint = endpoint_url or _TIGRIS_ENDPOINT
    return s3_storage(bucket=bucket, prefix=prefix, endpoint_url=endpoint, **options)


def r2_storage(
    *,
    bucket: str | None = None,
    prefix: str | None = None,
    account_id: str | None = None,
    endpoint_url: str | None = None,
    **options: Any,  # noqa: ANN401 - those of s3_storage
) -> Storage:
    """Return a storage in Cloudflare R2; the other arguments are those of ``s3_storage``.

    Raises:
        InvalidInputError: there is neither an account nor an endpoint, or no bucket.
    """
    if endpoint_url is None and account_id is None:
        raise _invalid("r2_storage needs an account_id or an endpoint_url")
    if bucket is None:
        bucket, _, prefix = (prefix or "").partition("/")
    options.setdefault("region", "auto")
    endpoint = endpoint_url or _R2_ENDPOINT.format(account_id=account_id)
    return s3_storage(bucket=bucket, prefix=prefix, endpoint_url=endpoint, **options)


def gcs_storage(*, bucket: str, prefix: str | None, **_options: Any) -> NoReturn:  # noqa: ANN401
    """Refuse: zfuse has no backend for Google Cloud Storage yet."""
    _unsupported(f"gs://{bucket}/{prefix or ''}", "Google Cloud Storage")


def azure_storage(*, account: str, container: str, prefix: str, **_options: Any) -> NoReturn:  # noqa: ANN401
    """Refuse: zfuse has no backend for Azure yet."""
    _unsupported(f"az://{account}/{container}/{prefix}", "Azure Blob Storage")


def hf_storage(*, bucket: str, prefix: str | None, **_options: Any) -> NoReturn:  # noqa: ANN401
    """Refuse: zfuse has no backend for Hugging Face buckets yet."""
    _unsupported(f"{bucket}/{prefix or ''}", "Hugging Face buckets")


def redirect_storage(base_url: str) -> NoReturn:
    """Refuse: zfuse follows redirects of objects, not of whole repositories."""
    _unsupported(base_url, "redirected repositories")


def _refuse(**given: object) -> None:
    """Refuse arguments of the official library that zfuse has no answer to."""
    for name, value in given.items():
        if value:
            raise _invalid(f"zfuse does not support {name} yet; leave it out")


def _invalid(message: str) -> exceptions.InvalidInputError:
    return exceptions.InvalidInputError(message, ErrorKind.STORAGE_CONFIG)


def _unsupported(place: str, what: str) -> NoReturn:
    raise exceptions.StorageError(
        f"{place}: this version of zfuse has no backend for {what}; use S3 or a directory",
        ErrorKind.STORAGE_CONFIG,
    )
