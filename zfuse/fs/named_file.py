"""The names of a file on a writable branch."""

from zfuse.fs.overlay_content import WrittenFile
from zfuse.fs.staging import OverlayPlace


class NamedFile(WrittenFile):
    """A file with a name, or several; it is known by the newest, a writer's final one.

    ``names`` are those that somebody looked up.
    """

    __slots__ = ("_last_name", "names")

    def __init__(self, directory: OverlayPlace, name: str) -> None:
        self._last_name = (directory, name)
        self.names: tuple[tuple[OverlayPlace, str], ...] = (self._last_name,)

    @property
    def directory(self) -> OverlayPlace:
        """Where it has the name that it is known by, or had its last."""
        return (self.names[-1] if self.names else self._last_name)[0]

    @property
    def name(self) -> str:
        """The name that it is known by, or its last."""
        return (self.names[-1] if self.names else self._last_name)[1]

    def gain_name(self, directory: OverlayPlace, name: str) -> None:
        """Know the file by a name that it was just given."""
        self.lose_name(directory, name)
        self.names = (*self.names, (directory, name))

    def meet_name(self, directory: OverlayPlace, name: str) -> None:
        """Take note of one of its names, without knowing it by that unless it is all there is."""
        if (directory, name) not in self.names:
            self.names = ((directory, name), *self.names)

    def lose_name(self, directory: OverlayPlace, name: str) -> None:
        """Take note that a name is no longer one of the file's."""
        if (directory, name) in self.names:
            self._last_name = self.names[-1]
            self.names = tuple(n for n in self.names if n != (directory, name))
