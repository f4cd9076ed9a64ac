"""Access keys that a function returns, as credentials of botocore."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from aiobotocore.credentials import AioDeferredRefreshableCredentials

from zfuse.storage.asyncio_thread import wait_for
from zfuse.storage.options import KeySource

_FOR_EVER: Final = datetime(9999, 1, 1, tzinfo=UTC)


def credentials_from(source: KeySource) -> Any:  # noqa: ANN401 - botocore has no types
    """Return credentials that ask *source* at their first use, and before they expire."""

    async def fetch() -> Mapping[str, str | None]:
        key = await wait_for(source)
        expires_at = key.expires_at or _FOR_EVER
        return {
            "access_key": key.access_key_id,
            "secret_key": key.secret_access_key,
            "token": key.session_token,
            "expiry_time": expires_at.astimezone(UTC).isoformat(),
        }

    return AioDeferredRefreshableCredentials(fetch, "zfuse")
