"""Letting the trees of a mount show the snapshots that their refs point at by now."""

import logging
from dataclasses import dataclass

import trio

from zfuse.errors import MissingObjectError, ZfuseError
from zfuse.format.ids import SnapshotId
from zfuse.fs.entry import Directory
from zfuse.fs.names import encode_name
from zfuse.fs.refs_directory import RefsDirectory
from zfuse.fs.staleness import StaleName, Staleness, find_stale
from zfuse.fs.tree import Tree, Trees, Version
from zfuse.fs.writable import Moved, Movement
from zfuse.repo.ref import RefKind

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Step:
    """What one tree is to show, None for what it shows now, under no name."""

    tree: Tree
    version: Version | None
    stale: Staleness

    def take(self, trees: Trees, movement: Movement) -> None:
        """Do it, and note what that changed."""
        tree, version = self.tree, self.version
        before = tree.snapshot_id
        movement.stale.extend(self.stale.names)
        if version is not None:
            tree.move(version, self.stale.renewed)
            log.info("%s shows snapshot %s now", tree.ref, version.snapshot_id)
        elif not tree.is_mount_root:  # the branch of one may come back
            trees.drop(tree)
        if tree.ref.kind is RefKind.BRANCH:
            after = trees.repository.branches.get(tree.ref.name)
            movement.moved.append(Moved(tree.ref.name, before, after))


async def plan_moves(
    trees: Trees, root: Directory, nursery: trio.Nursery, movement: Movement
) -> list[Step]:
    """Return the steps of the trees whose ref points elsewhere; what fails goes to *movement*."""
    steps: list[Step] = []
    for tree, target in trees.moved():
        try:
            steps.append(await _step(tree, target, root, nursery))
        except ZfuseError as exc:
            movement.errors.append(exc)
    return steps


async def _step(
    tree: Tree, target: SnapshotId | None, root: Directory, nursery: trio.Nursery
) -> Step:
    if target is None:
        return Step(tree, None, Staleness(await _own_name(tree, root), []))
    version = await tree.prepare(target)
    try:
        stale = await find_stale(tree, await tree.view(), version, nursery)
    except MissingObjectError:
        if tree.is_mount_root:
            raise
        # Nobody can tell any more what it was: its name gets another tree.
        return Step(tree, None, Staleness(await _own_name(tree, root), []))
    return Step(tree, version, stale)


async def _own_name(tree: Tree, root: Directory) -> list[StaleName]:
    """Return the name of a tree, where the mount shows refs."""
    parent = await root.lookup(tree.ref.kind.value)
    if not isinstance(parent, RefsDirectory):
        return []
    return [(parent, encode_name(tree.ref.name))]
