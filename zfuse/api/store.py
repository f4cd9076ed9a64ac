"""The store of a session with the exceptions of this interface."""

from collections.abc import Awaitable, Callable
from typing import Protocol, runtime_checkable

from zfuse.api.boundary import at_boundary, translated
from zfuse.api.error_kind import ErrorKind
from zfuse.api.exceptions import ReadOnlyError, SessionStateError
from zfuse.api.values import SessionMode
from zfuse.zarr_store import store
from zfuse.zarr_store.session_store import Owner


@runtime_checkable
class HasMode(Protocol):
    """An owner that says what can be done with it."""

    @property
    def mode(self) -> SessionMode:
        """What can be done."""
        ...


class IcechunkStore(store.IcechunkStore):
    """The nodes and chunks of a session for zarr-python, under the keys of Zarr v3."""

    @property
    def session(self) -> Owner:
        """The session that this shows."""
        return self._owner

    def _check_writable(self) -> None:
        with translated():
            super()._check_writable()
        if self._owner.read_only:
            raise ReadOnlyError(
                "the session was committed or reads only; open a writable one",
                ErrorKind.READ_ONLY_STORE,
            )
        if isinstance(self._owner, HasMode) and self._owner.mode is SessionMode.rearrange:
            raise SessionStateError(
                "this session only moves nodes; write in one of writable_session",
                ErrorKind.REARRANGE_SESSION_ONLY,
            )

    def _run[R](self, work: Callable[[], Awaitable[R]]) -> R:
        return super()._run(at_boundary(work))

    async def _run_async[R](self, work: Callable[[], Awaitable[R]]) -> R:
        return await super()._run_async(at_boundary(work))
