"""How the C library manages memory, which is most of what receiving a chunk costs.

By default glibc gives a block of a chunk's size back to the kernel when it is freed and asks
for it anew for the next chunk, which the kernel fills with zeros page by page: 0.5 ms for each
MiB, more than receiving it takes.
"""

import ctypes
import logging
from typing import Final

log = logging.getLogger(__name__)

_TRIM_THRESHOLD: Final = -1
_TOP_PAD: Final = -2
_MMAP_THRESHOLD: Final = -3
_SETTINGS: Final = {
    _MMAP_THRESHOLD: 32 << 20,  # larger blocks (manifests) are given back
    _TRIM_THRESHOLD: 64 << 20,
    _TOP_PAD: 16 << 20,
}
"""See mallopt(3)."""


def keep_freed_memory() -> None:
    """Have freed blocks of up to 32 MiB, 64 MiB in all, kept for the next chunks."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        log.debug("this C library has no mallopt")
        return
    for parameter, value in _SETTINGS.items():
        mallopt(parameter, value)
