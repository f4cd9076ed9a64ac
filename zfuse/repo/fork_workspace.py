"""A fork of a session where it is changed: in another process, as a rule."""

import logging
import os
from dataclasses import replace

from zfuse.format.snapshot import Snapshot
from zfuse.repo.change_set import ChangeSet
from zfuse.repo.fork import Fork
from zfuse.repo.repository import Repository
from zfuse.repo.working_tree import WorkingTree
from zfuse.repo.workspace import Workspace

log = logging.getLogger(__name__)


class ForkWorkspace(Workspace):
    """The nodes and chunks of a session as it was when it was forked, with changes on top.

    They never become a commit; ``as_fork`` is what goes back to the session. One that ends in
    another process with changes that nobody took logs a warning: a program that forgets to
    send the fork back would lose them in silence.
    """

    _is_seen = True  # whether somebody took all changes

    def __init__(self, repository: Repository, base: Snapshot, fork: Fork) -> None:
        super().__init__(repository, base)
        self._home = fork.home
        self._pending = fork.inherited
        self.tree = WorkingTree(fork.inherited.apply(base.nodes), fork.changes)

    @classmethod
    async def open(cls, repository: Repository, fork: Fork) -> "ForkWorkspace":
        """Go on with *fork*, which may come from another process.

        Raises:
            MissingObjectError: its snapshot is gone.
        """
        view = await repository.assets.fetch_hierarchy(fork.base_id)
        copy = ChangeSet()
        copy.then(fork.changes)
        return cls(repository, view.snapshot, replace(fork, changes=copy))

    @property
    def has_changes(self) -> bool:
        """Whether anything was changed since the session was forked."""
        return bool(self.tree.changes)

    def as_fork(self) -> Fork:
        """Return all changes up to now, to be merged into the session."""
        copy = ChangeSet()
        copy.then(self.tree.changes)
        self._is_seen = True
        return Fork(self.base.id, self._pending, copy, self._home)

    async def _turn(self) -> None:
        """Wait as long as changes have to; one follows."""
        self._is_seen = False
        await super()._turn()

    def __del__(self) -> None:
        if not self._is_seen and self._home != os.getpid() and self.has_changes:
            log.warning(
                "a fork of a session ended in process %d with changes that nobody took: return"
                " it from the task that made them, and merge it into the session",
                os.getpid(),
            )
