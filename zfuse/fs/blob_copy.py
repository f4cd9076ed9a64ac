"""Copying what a repository has into the journal, for those who change it."""

import os
from typing import Final

from zfuse.fs.blobs import Blobs, journal_errors
from zfuse.fs.entry import Content

_PIECE: Final = 4 << 20


async def copy_content(blobs: Blobs, content: Content, about: str) -> tuple[str, int]:
    """Make a blob of a content and return its name and a descriptor.

    *about* says for an error whose content it is.
    """
    blob, descriptor = blobs.open_new()
    try:
        offset = 0
        while offset < content.size:
            piece = await content.read(offset, _PIECE)
            with journal_errors(f"can not copy {about}"):
                os.pwrite(descriptor, piece, offset)
            offset += len(piece)
    except BaseException:
        os.close(descriptor)
        blobs.remove(blob)
        raise
    return blob, descriptor
