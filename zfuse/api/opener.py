"""What this process has open: one set of connections for all repositories.

A process that was forked opens its own.
"""

import atexit
import os
import pickle
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

import trio

from zfuse import portal
from zfuse.api.credentials import AnyCredential, AnyS3Credential, Credentials, S3Credentials
from zfuse.api.object_stores import S3Options
from zfuse.errors import InvalidInputError
from zfuse.format.config import StoreConfig
from zfuse.repo.virtual import store_options
from zfuse.storage.base import Storage
from zfuse.storage.open import StorageOpener
from zfuse.storage.options import AccessKey, StorageOptions

_CLOSING_S: Final = 5.0

_openers: Final[dict[int, StorageOpener]] = {}


def opener() -> StorageOpener:
    """Return the opener of this process."""
    pid = os.getpid()
    if pid not in _openers:
        _openers.clear()
        _openers[pid] = StorageOpener()
    return _openers[pid]


@atexit.register
def close_connections() -> None:
    """Close all connections of this process; what is open fails from then on.

    Clients that are forgotten complain when the process ends.
    """
    found = _openers.pop(os.getpid(), None)
    if found is None:
        return

    async def close() -> None:
        with trio.move_on_after(_CLOSING_S):
            await found.aclose()

    with suppress(RuntimeError):  # no new threads any more
        portal.run(close)


def s3_options(options: S3Options, credentials: AnyS3Credential | None) -> StorageOptions:
    """Return how a store is reached with *credentials*, None for what *options* say."""
    found = StorageOptions(
        endpoint_url=options.endpoint_url,
        region=options.region,
        anonymous=options.anonymous,
        force_path_style=options.force_path_style,
        requester_pays=options.requester_pays,
    )
    match credentials:
        case S3Credentials.Anonymous():
            return replace(found, anonymous=True)
        case S3Credentials.Static(credentials=key):
            pass
        case S3Credentials.Refreshable(pickled_function=function):
            return replace(found, anonymous=False, key_source=_Asked(function))
        case S3Credentials.FromEnv():
            return replace(found, anonymous=False)
        case _:
            return found
    return replace(
        found,
        anonymous=False,
        access_key_id=key.access_key_id,
        secret_access_key=key.secret_access_key,
        session_token=key.session_token,
    )


@dataclass(frozen=True, slots=True)
class _Asked:
    """Asks a pickled function for access keys."""

    function: bytes

    def __call__(self) -> AccessKey:
        key = pickle.loads(self.function)()
        return AccessKey(
            key.access_key_id, key.secret_access_key, key.session_token, key.expires_after
        )


class Containers:
    """Opens the stores that virtual chunks lie in, with the credentials given for each prefix."""

    def __init__(self, credentials: Mapping[str, AnyCredential | None]) -> None:
        self._credentials = credentials

    async def open_container(
        self, root: str, store: StoreConfig, credentials: str | None
    ) -> Storage:
        """Return the storage whose keys are the paths below *root*.

        *credentials* is the prefix that they were given for.

        Raises:
            InvalidInputError: zfuse has no such store, or they are for another kind of store.
        """
        options = S3Options.from_values(store_options(store))
        match self._credentials.get(credentials or ""):
            case Credentials.S3(credentials=key):
                return await opener().open(root, s3_options(options, key))
            case Credentials.LocalFileSystemAccess() | Credentials.HttpAccess():
                return await opener().open(root)
            case None:
                # A stranger's repository must not have keys sent to a host of its choice.
                anonymous = options.anonymous or options.endpoint_url is not None
                return await opener().open(
                    root, replace(s3_options(options, None), anonymous=anonymous)
                )
            case _:
                raise InvalidInputError(f"zfuse can not read {root} with credentials of that kind")
