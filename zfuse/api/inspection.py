"""The files of a repository as plain values, for those who want to see what is in them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from zfuse.api.boundary import refusing, twins
from zfuse.api.error_kind import ErrorKind
from zfuse.api.exceptions import InvalidInputError, StorageError
from zfuse.api.opened import ConfiguredRepository, Opening, info_of
from zfuse.api.refs import known, snapshot_id_of
from zfuse.api.values import moment
from zfuse.errors import InvalidInputError as BadInputError
from zfuse.errors import ObjectNotFoundError
from zfuse.format.header import FileHeader, FileType
from zfuse.format.ids import ManifestId
from zfuse.format.layout import REPO_INFO_KEY, manifest_key, snapshot_key, transaction_log_key
from zfuse.format.manifest import Manifest
from zfuse.format.ref_columns import RefKind
from zfuse.format.repo_info import RepoInfo, RepoStatus, SnapshotInfo, Update, UpdateKind
from zfuse.format.snapshot import ArrayNode, Node, Snapshot
from zfuse.format.transaction_log import TransactionLog
from zfuse.repo.array_columns import stored_columns

_WITHOUT_SUFFIX = {UpdateKind.FEATURE_FLAG_CHANGED}


class Inspection:
    """The part of a repository that shows its files."""

    _opening: Opening

    async def _inspect_snapshot(self, snapshot_id: str) -> dict[str, Any]:
        """Return what the file of a snapshot says."""
        engine = await self._opening.fresh()
        found = await known(engine, snapshot_id)
        data = await _fetch(engine, snapshot_key(found))
        snapshot = Snapshot.decode(data)
        parent = {} if snapshot.parent_id is None else {"parent_id": str(snapshot.parent_id)}
        return {
            "id": str(snapshot.id),
            "header": _header(data, FileType.SNAPSHOT),
            **parent,
            "flushed_at": _time(snapshot.flushed_at),
            "commit_message": snapshot.message,
            "metadata": dict(snapshot.metadata),
            "manifests": [
                {
                    "id": str(each.manifest_id),
                    "size_bytes": each.size_bytes,
                    "num_chunk_refs": each.num_chunk_refs,
                }
                for each in snapshot.manifest_files.values()
            ],
            "nodes": [_node(node) for node in snapshot.nodes],
        }

    async def _inspect_manifest(self, manifest_id: str) -> dict[str, Any]:
        """Return what a manifest file says, in numbers."""
        engine = await self._opening.engine()
        with refusing(BadInputError, InvalidInputError, ErrorKind.INVALID_SNAPSHOT_ID):
            found = ManifestId.parse(manifest_id)
        data = await _fetch(engine, manifest_key(found))
        manifest = Manifest.decode(data)
        arrays = [_counts(manifest, node_id) for node_id in manifest.node_ids()]
        kinds = ("inline", "native", "virtual")
        packed = sum(array.pop("num_packed") for array in arrays)
        return {
            "id": str(manifest.id),
            "header": _header(data, FileType.MANIFEST),
            "size_bytes": len(data),
            "num_arrays": len(arrays),
            "total_chunk_refs": sum(array["num_chunk_refs"] for array in arrays),
            **{f"total_{kind}": sum(a[f"num_{kind}"] for a in arrays) for kind in kinds},
            "arrays": arrays,
            "compression": {
                "uses_location_compression": packed > 0,
                "num_compressed_refs": packed,
            },
        }

    async def _inspect_repo_info(self) -> dict[str, Any]:
        """Return what the repo info file says.

        Raises:
            FormatError: a repository of version 1 has none.
        """
        engine = await self._opening.fresh()
        info_of(engine)
        data = await _fetch(engine, REPO_INFO_KEY)
        info = RepoInfo.decode(data)
        return {
            "header": _header(data, FileType.REPO_INFO),
            "spec_version": f"{info.spec_version}.0",
            "branches": {name: str(target) for name, target in info.branches.items()},
            "tags": {name: str(target) for name, target in info.tags.items()},
            "deleted_tags": list(info.deleted_tags),
            "snapshots": [_snapshot_info(each) for each in info.snapshots.values()],
            "metadata": dict(info.metadata),
            "latest_updates": [_update(each) for each in info.latest_updates],
        }

    async def _inspect_transaction_log(self, snapshot_id: str) -> dict[str, Any]:
        """Return what the file says that tells what a snapshot changed."""
        engine = await self._opening.engine()
        data = await _fetch(engine, transaction_log_key(snapshot_id_of(snapshot_id)))
        log = TransactionLog.decode(data)
        kinds = ("new", "deleted", "updated")
        return {
            "header": _header(data, FileType.TRANSACTION_LOG),
            **{
                f"{kind}_{nodes}": sorted(map(str, getattr(log, f"{kind}_{nodes}")))
                for kind in kinds
                for nodes in ("groups", "arrays")
            },
            "updated_chunks": [
                {"node_id": str(node), "chunks": [i for part in parts for i in part.tolist()]}
                for node, parts in log.updated_chunks.items()
            ],
            "moved_nodes": [{"from": m.source, "to": m.target} for m in log.moved_nodes],
        }

    inspect_snapshot, inspect_snapshot_async = twins(_inspect_snapshot)
    inspect_manifest, inspect_manifest_async = twins(_inspect_manifest)
    inspect_repo_info, inspect_repo_info_async = twins(_inspect_repo_info)
    inspect_transaction_log, inspect_transaction_log_async = twins(_inspect_transaction_log)


async def _fetch(engine: ConfiguredRepository, key: str) -> bytes:
    with refusing(ObjectNotFoundError, StorageError, ErrorKind.OBJECT_NOT_FOUND):
        return (await engine.storage.get(key)).data


def _header(data: bytes, kind: FileType) -> dict[str, Any]:
    header = FileHeader.decode(data, expect=kind)
    name, _, version = header.writer.partition("-")
    return {
        "written_by": header.writer,
        "app_name": name,
        "app_version": version,
        "spec_version": f"{header.spec_version}.0",
        "file_type": kind.name.lower().replace("_", "-"),
        "compression": header.compression.name.lower(),
    }


def _time(microseconds: int) -> str:
    return moment(microseconds).isoformat().replace("+00:00", "Z")


def _node(node: Node) -> dict[str, Any]:
    told: dict[str, Any] = {"id": str(node.id), "path": node.path}
    if not isinstance(node, ArrayNode):
        return {**told, "node_type": "group"}
    names = node.dimension_names or (None,) * len(node.shape)
    return {
        **told,
        "node_type": "array",
        "shape": [
            {
                **({} if name is None else {"name": name}),
                "array_length": dimension.array_length,
                "num_chunks": dimension.num_chunks,
            }
            for name, dimension in zip(names, node.shape, strict=True)
        ],
        "manifest_refs": [
            {"id": str(ref.manifest_id), "extents": [list(extent) for extent in ref.extents]}
            for ref in node.manifests
        ],
    }


def _counts(manifest: Manifest, node_id: Any) -> dict[str, Any]:  # noqa: ANN401 - an id
    kinds = np.concatenate([part.kinds for part in stored_columns(manifest, node_id)])
    packed = int((kinds == RefKind.PACKED).sum())
    return {
        "node_id": str(node_id),
        "num_chunk_refs": len(kinds),
        "num_inline": int((kinds == RefKind.INLINE).sum()),
        "num_native": int((kinds == RefKind.NATIVE).sum()),
        "num_virtual": int((kinds == RefKind.VIRTUAL).sum()) + packed,
        "num_packed": packed,
    }


def _snapshot_info(info: SnapshotInfo) -> dict[str, Any]:
    return {
        "id": str(info.id),
        **({} if info.parent_id is None else {"parent_id": str(info.parent_id)}),
        "flushed_at": _time(info.flushed_at),
        "message": info.message,
        "metadata": dict(info.metadata),
    }


def _update(update: Update) -> dict[str, Any]:
    words = "".join(word.capitalize() for word in update.kind.name.split("_"))
    name = words.replace("Gc", "GC")
    suffix = "" if update.kind in _WITHOUT_SUFFIX else "Update"
    return {
        "update_type": {"type": f"{name}{suffix}", **_details(update.details)},
        "updated_at": _time(update.updated_at),
        **({} if update.backup_path is None else {"backup_path": update.backup_path}),
    }


def _details(details: Mapping[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for name, value in details.items():
        match value:
            case RepoStatus():
                words = value.availability.name.split("_")
                told[name] = {
                    "availability": "".join(map(str.capitalize, words)),
                    "limited_availability_reason": value.reason,
                    "set_at": _time(value.set_at),
                }
            case bytes():
                told[name] = str(value)
            case _ if name != "is_set":
                told[name] = value
    return told
