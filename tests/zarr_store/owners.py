"""Sessions of the smallest kind that a store can belong to."""

from dataclasses import dataclass, field

from tests.repo.driving import NoVirtualChunks
from zfuse.portal import run
from zfuse.repo.create import create_repository
from zfuse.repo.repository import Repository
from zfuse.repo.session import Session
from zfuse.repo.workspace import Workspace

_OWNERS = {}


@dataclass(eq=False)
class Owner:
    """A session that can be pickled within the process."""

    workspace: Workspace
    read_only: bool = False
    number: int = field(default_factory=lambda: len(_OWNERS))

    def __post_init__(self):
        _OWNERS[self.number] = self

    def __reduce__(self):
        return owner_of, (self.number,)


def owner_of(number):
    """Return the session of that *number*."""
    return _OWNERS[number]


def writable(storage, spec=2):
    """Make a repository in *storage* and return a session of it."""

    async def make():
        await create_repository(storage, spec_version=spec)
        repository = await Repository.open(storage, virtual=NoVirtualChunks())
        return await Session.open(repository, "main")

    return Owner(run(make))


def commit(owner, message="a commit"):
    """Commit what *owner* changed."""
    return run(lambda: owner.workspace.commit(message))


def committed(owner):
    """Return a read-only session of what *owner* committed last."""

    async def view():
        repository = owner.workspace.repository
        tip = repository.lookup_branch("main")
        found = await repository.assets.fetch_hierarchy(tip)
        return Workspace(repository, found.snapshot)

    return Owner(run(view), read_only=True)
