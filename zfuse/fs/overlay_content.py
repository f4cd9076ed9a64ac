"""What somebody reads and writes who has a file of a writable branch open."""

from abc import abstractmethod

from zfuse.fs.entry import Content, File


class WrittenFile(File):
    """What an open file needs to know of the file.

    Of its bytes it has those that are staged, and those that were when a commit took them
    along while it was open; both are *held*.
    """

    @property
    @abstractmethod
    def held_size(self) -> int | None:
        """Length in bytes of what is held, None if nothing is."""

    @property
    def is_changed(self) -> bool:
        """Whether anything is held."""
        return self.held_size is not None

    @abstractmethod
    async def base(self) -> File:
        """Return the file of the base that this is, if nothing is held."""

    @abstractmethod
    async def read(self, offset: int, size: int) -> bytes:
        """Return a piece of what is held."""

    @abstractmethod
    async def write(self, offset: int, data: bytes) -> int:
        """Put *data* at *offset* and return its length."""

    @abstractmethod
    async def resize(self, size: int) -> None:
        """Cut the file at *size* bytes, or fill it up with zeros, as part of writing it."""

    @abstractmethod
    def begin_writing(self, writer: Content) -> None:
        """Take note that somebody changes the file."""

    @abstractmethod
    def end_writing(self, writer: Content) -> None:
        """Record that somebody who wrote the file has closed it; a reader changes nothing."""

    @abstractmethod
    def stop_writing(self, writer: Content) -> None:
        """Take note that somebody will not change the file any more, closed or not."""

    @abstractmethod
    async def sync(self) -> None:
        """Return when what was written would survive a loss of power."""

    @abstractmethod
    def use(self) -> None:
        """Count one more who has the file open."""

    @abstractmethod
    def leave(self) -> None:
        """Count one less who has the file open."""


class OverlayContent(Content):
    """An open file of a writable branch."""

    def __init__(self, file: WrittenFile, lower: Content | None = None) -> None:
        self._file = file
        self._lower = lower
        file.use()

    @property
    def size(self) -> int:
        """Length in bytes as of now."""
        held = self._file.held_size
        if held is not None:
            return held
        return 0 if self._lower is None else self._lower.size

    async def prepare(self) -> bytes | None:
        """Return all bytes where the base's content would."""
        if self._file.held_size is not None or self._lower is None:
            return None
        prepared = await self._lower.prepare()
        return None if self._file.is_changed else prepared  # the kernel knows newer bytes

    def delivered(self) -> None:
        """Take note that the kernel has all bytes."""
        if self._lower is not None:
            self._lower.delivered()

    async def read(self, offset: int, size: int) -> bytes:
        """Return a piece."""
        if self._file.held_size is not None:
            return await self._file.read(offset, size)
        if self._lower is None:
            self._lower = await (await self._file.base()).open()
        return await self._lower.read(offset, size)

    async def write(self, offset: int, data: bytes) -> int:
        """Put *data* at *offset* and return its length."""
        self._file.begin_writing(self)
        return await self._file.write(offset, data)

    async def truncate(self, size: int) -> None:
        """Cut the file at *size* bytes, or fill it up with zeros."""
        self._file.begin_writing(self)
        await self._file.resize(size)

    def flush(self) -> None:
        """Record that the file was closed, if this is who wrote it."""
        self._file.end_writing(self)

    async def sync(self) -> None:
        """Return when the file would survive a loss of power."""
        await self._file.sync()

    def close(self) -> None:
        """Let go of the file; what a mapping wrote after it was closed counts as closed now."""
        try:
            self.flush()
        finally:
            self._file.stop_writing(self)
            self._file.leave()
