"""How to reach a store."""

from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True, slots=True)
class StorageOptions:
    """How to reach a store; what is None is left to botocore's own look-up.

    Only S3 looks at anything but ``deadline_s``, the seconds that one call may take with all
    its retries.
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
    deadline_s: float = 30.0

    @property
    def idle_s(self) -> float:
        """Seconds without a byte after which a connection counts as broken.

        A third of the deadline, so that a hanging connection leaves time for another one.
        """
        return self.deadline_s / 3


DEFAULT_OPTIONS: Final = StorageOptions()
"""Whatever botocore finds by itself, with the usual deadline."""
