"""``zfuse commit``, another name of ``zfuse sync``."""

from zfuse.cli.sync import command

__all__ = ["command"]
