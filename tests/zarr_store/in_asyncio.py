"""Runs zarr's tests, which are written for asyncio, where others run on trio."""

import asyncio
import functools
import inspect

import pytest

from zfuse.errors import InvalidInputError, NotFoundError


def suite(differences):
    """Return a decorator for a class that inherits tests of zarr's.

    *differences* gives by the name of a test a function of its arguments, which returns why
    Icechunk refuses what the test does with them, None if it does not.
    """

    def adapt(cls):
        for name in dir(cls):
            if name.startswith("test_"):
                method = inspect.getattr_static(cls, name)
                setattr(cls, name, _adapted(method, differences.get(name)))
        return cls

    return adapt


def _adapted(method, why_refused):
    @functools.wraps(method)
    def run(*args, **kwargs):
        reason = why_refused(kwargs) if why_refused else None
        if reason is None:
            return _finish(method(*args, **kwargs))
        with pytest.raises((InvalidInputError, NotFoundError)):
            _finish(method(*args, **kwargs))
        pytest.xfail(reason)

    return run


def _finish(result):
    return asyncio.run(result) if inspect.iscoroutine(result) else result
