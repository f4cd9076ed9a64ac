"""Taking changes back from other processes, under the official library's names."""

from zfuse.api.distributed import extract_session, merge_sessions

__all__ = ["extract_session", "merge_sessions"]
