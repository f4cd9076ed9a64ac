"""What leaves a handler of the kernel's requests: an answer, or an errno.

pyfuse3 tolerates one exception from a handler, FUSEError. Anything else, even a FUSEError
wrapped in an ExceptionGroup by a nursery, ends main() and with it the mount; ``answering``
makes sure that nothing else gets out.
"""

import errno
import functools
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Concatenate, Final, Protocol

import trio
from pyfuse3 import FUSEError

from zfuse.errors import StorageTimeoutError, ZfuseError

log = logging.getLogger(__name__)

_PATIENCE: Final = 1.25
"""Hundreds of requests that end at once take their time to say why."""


class Answering(Protocol):
    """Whose handlers are guarded: how long they may take, and how to tell what was asked."""

    deadline_s: float

    def about(self, request: str, args: Sequence[Any]) -> str:
        """Return what a request asks for, for a log line."""
        ...


type Handler[S: Answering, **P, R] = Callable[Concatenate[S, P], Coroutine[Any, Any, R]]


def errno_for(exc: Exception, what: str = "a request") -> int:
    """Return the errno for *exc*, and log it as loudly as it deserves."""
    if isinstance(exc, FUSEError):
        return int(exc.errno)
    if isinstance(exc, ExceptionGroup):
        answers = {errno_for(part, what) for part in exc.exceptions}
        return answers.pop() if len(answers) == 1 else errno.EIO
    if isinstance(exc, ZfuseError):
        log.log(exc.log_level, "%s: %s: %s", what, type(exc).__name__, exc)
        return exc.errno
    log.error("bug in a request handler, %s", what, exc_info=exc)
    return errno.EIO


def at_once[S: Answering, **P, R](handler: Handler[S, P, R]) -> Handler[S, P, R]:
    """Do the same as ``answering`` for a handler that waits for nobody, and so needs no deadline.

    A deadline costs a tenth of what such a request takes.
    """

    @functools.wraps(handler)
    async def answered(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await handler(self, *args, **kwargs)
        except FUSEError:
            raise
        except Exception as exc:
            raise FUSEError(errno_for(exc, self.about(handler.__name__, args))) from exc

    return answered


def answering[S: Answering, **P, R](handler: Handler[S, P, R]) -> Handler[S, P, R]:
    """Turn whatever *handler* raises into the one exception that pyfuse3 accepts.

    No request of a reader hangs: what a handler waits for keeps to the mount's deadline itself
    and can say what was late. Who is not done a quarter later is ended here.
    """

    @functools.wraps(handler)
    async def answered(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            with trio.move_on_after(self.deadline_s * _PATIENCE):
                return await handler(self, *args, **kwargs)
        except FUSEError:
            raise
        except Exception as exc:  # not BaseException: trio.Cancelled passes
            raise FUSEError(errno_for(exc, self.about(handler.__name__, args))) from exc
        late = StorageTimeoutError(f"no answer within {self.deadline_s:g} s")
        raise FUSEError(errno_for(late, self.about(handler.__name__, args)))

    return answered
