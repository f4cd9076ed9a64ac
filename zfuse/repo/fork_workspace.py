"""A fork of a session where it is changed: in another process, as a rule."""

from zfuse.format.snapshot import Snapshot
from zfuse.repo.change_set import ChangeSet
from zfuse.repo.fork import Fork
from zfuse.repo.repository import Repository
from zfuse.repo.working_tree import WorkingTree
from zfuse.repo.workspace import Workspace


class ForkWorkspace(Workspace):
    """The nodes and chunks of a session as it was when it was forked, with changes on top.

    They never become a commit; ``fork`` is what goes back to the session.
    """

    def __init__(self, repository: Repository, base: Snapshot, fork: Fork) -> None:
        super().__init__(repository, base)
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
        return cls(repository, view.snapshot, Fork(fork.base_id, fork.inherited, copy))

    @property
    def has_changes(self) -> bool:
        """Whether anything was changed since the session was forked."""
        return bool(self.tree.changes)

    def as_fork(self) -> Fork:
        """Return all changes up to now, to be merged into the session."""
        copy = ChangeSet()
        copy.then(self.tree.changes)
        return Fork(self.base.id, self._pending, copy)
