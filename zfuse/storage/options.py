"""How to reach a store."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final


@dataclass(frozen=True, slots=True)
class AccessKey:
    """An access key of S3, and until when it is good; None for ever."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    expires_at: datetime | None = None


KeySource = Callable[[], AccessKey]
"""Returns an access key; it may wait, and is asked again before that one expires."""


@dataclass(frozen=True, slots=True)
class StorageOptions:
    """How to reach a store; what is None is left to botocore's own look-up.

    Only S3 looks at anything but ``deadline_s``, the seconds that one call may take with all
    its retries. Options are equal if their ``key_source`` is; it goes before an access key.
    """

    endpoint_url: str | None = None
    region: str | None = None
    profile: str | None = None
    anonymous: bool = False
    force_path_style: bool = False
    requester_pays: bool = False
    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    key_source: KeySource | None = field(default=None, repr=False)
    deadline_s: float = 30.0

    @property
    def idle_s(self) -> float:
        """Seconds without a byte after which a connection counts as broken.

        A third of the deadline, so that a hanging connection leaves time for another one.
        """
        return self.deadline_s / 3


DEFAULT_OPTIONS: Final = StorageOptions()
"""Whatever botocore finds by itself, with the usual deadline."""
