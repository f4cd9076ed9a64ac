"""zarr-python's state machine of hierarchies, with commits, moves and copies between its steps.

The machine of zarr compares a store with one in memory after each step; here the store is a
branch, and what it commits is compared too, with the bytes that the official library finds.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

from hypothesis import assume, note
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from zarr.storage import LocalStore
from zarr.testing.stateful import ZarrHierarchyStateMachine
from zarr.testing.strategies import short_node_names

from tests.compat.documents import delete, get_all, put_all


class CommittedHierarchy(ZarrHierarchyStateMachine):
    """A hierarchy at *root* that *commit* commits; *copy* copies a node by reference.

    *committed* returns all keys that were committed, with their bytes.
    """

    def __init__(
        self,
        root: Path,
        *,
        sync: Callable[[], None],
        copy: Callable[[str, str], None],
        committed: Callable[[], dict[str, bytes]],
    ) -> None:
        super().__init__(LocalStore(root))
        self._root = root
        self._sync_branch = sync
        self._copy_node = copy
        self._committed = committed

    @rule()
    def commit(self) -> None:
        """Commit, and compare what is in the repository with the model and the mount."""
        self._sync_branch()
        committed = self._committed()
        assert set(committed) == set(get_all(self.model))
        assert committed == get_all(self.store)

    @precondition(lambda self: self.all_groups or self.all_arrays)
    @rule(data=st.data(), name=short_node_names)
    def move(self, data: st.DataObject, name: str) -> None:
        """Move a node into a group, as mv does."""
        source, target = self._draw_two(data, name)
        note(f"moving {source} to {target}")
        (self._root / source).rename(self._root / target)
        self._put_below(target, self._take_below(source))
        for nodes in (self.all_groups, self.all_arrays):
            moved = {node for node in nodes if _is_within(node, source)}
            nodes.difference_update(moved)
            nodes.update(target + node[len(source) :] for node in moved)

    @precondition(lambda self: self.all_groups or self.all_arrays)
    @rule(data=st.data(), name=short_node_names, by_reference=st.booleans())
    def copy(self, data: st.DataObject, name: str, by_reference: bool) -> None:
        """Copy a node into a group, as cp -r and zfuse cp do."""
        source, target = self._draw_two(data, name)
        note(f"copying {source} to {target}, by reference: {by_reference}")
        if by_reference:
            self._copy_node(source, target)
        else:
            shutil.copytree(self._root / source, self._root / target)
        content = self._take_below(source)
        self._put_below(source, content)
        self._put_below(target, content)
        for nodes in (self.all_groups, self.all_arrays):
            copied = {node for node in nodes if _is_within(node, source)}
            nodes.update(target + node[len(source) :] for node in copied)

    def _draw_two(self, data: st.DataObject, name: str) -> tuple[str, str]:
        """Draw the path of a node, and one in a group for it to go to."""
        source = data.draw(st.sampled_from(sorted(self.all_groups | self.all_arrays)))
        parent = data.draw(st.sampled_from(["", *sorted(self.all_groups)]))
        target = f"{parent}/{name.lower()}".lstrip("/")
        assume(self.can_add(target) and not _is_within(target, source))
        assume(not (self._root / target).exists())  # directories outlive their keys
        return source, target

    def _take_below(self, path: str) -> dict[str, bytes]:
        everything = get_all(self.model)
        start = path + "/"
        taken = {k[len(start) :]: v for k, v in everything.items() if k.startswith(start)}
        for key in taken:
            delete(self.model, start + key)
        return taken

    def _put_below(self, path: str, content: dict[str, bytes]) -> None:
        put_all(self.model, {f"{path}/{key}": data for key, data in content.items()})


def _is_within(path: str, top: str) -> bool:
    return path == top or path.startswith(top + "/")
