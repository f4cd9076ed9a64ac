"""The libraries that only the extra ``ingest`` brings."""

from zfuse.errors import InvalidInputError


def missing_extra(exc: ImportError) -> InvalidInputError:
    """Return the error for a library that is not installed."""
    return InvalidInputError(
        f"this needs {exc.name or 'more libraries'}, which is not installed:"
        " pip install 'zfuse[ingest]'"
    )
