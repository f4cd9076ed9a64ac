"""Virtual chunks: references to existing data, and whole data sets of them."""

import functools
from importlib import import_module
from typing import Any

from zfuse.api.boundary import translated
from zfuse.api.containers import VirtualChunkContainer, VirtualChunkSpec

__all__ = ["VirtualChunkContainer", "VirtualChunkSpec"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - functions of the ingest
    """Import what references data in other formats, which takes the extra "ingest"."""
    if name in {"ingest", "write"}:
        work = getattr(import_module("zfuse.ingest"), name)

        @functools.wraps(work)
        def call(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as the function has them
            with translated():
                return work(*args, **kwargs)

        return call
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
