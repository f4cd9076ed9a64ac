"""Fixtures of the tests that need /dev/fuse."""

import contextlib
import itertools

import pytest

from tests.mount.mounting import mounting


@pytest.fixture
def mounted(tmp_path):
    """A function that mounts a repository and returns the ``Mounted``."""
    numbers = itertools.count(1)
    with contextlib.ExitStack() as stack:

        def make(location, *arguments, env=None):
            directory = tmp_path / f"mount{next(numbers)}"
            return stack.enter_context(mounting(location, directory, *arguments, env=env))

        yield make


@pytest.fixture
def mount(mounted):
    """A function that mounts a repository and returns the directory."""
    return lambda location, *arguments, env=None: mounted(location, *arguments, env=env).path
