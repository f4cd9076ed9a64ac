"""The calls that both libraries have to answer alike, by name."""

import datetime as dt

from tests.api.everyday import (
    LONG_AGO,
    NOBODY,
    WITHOUT_ZONE,
    add,
    amended,
    both_write,
    changed,
    chunks,
    commit_of,
    config_saved,
    default_metadata,
    diverged,
    expired,
    failed_transaction,
    flags,
    flushed,
    forked,
    group,
    moved_names,
    names_below,
    rebased,
    reindexed,
    shifted,
    status,
    transaction,
    write,
)

OPENING = {
    "create where one is": lambda w: w.ic.Repository.create(w.storage),
    "open where none is": lambda w: w.ic.Repository.open(w.ic.in_memory_storage()),
    "open or create": lambda w: w.ic.Repository.open_or_create(w.storage).list_branches(),
    "open or create anew": lambda w: w.ic.Repository.open_or_create(
        w.ic.in_memory_storage()
    ).list_branches(),
    "create version 1": lambda w: (
        w.ic.Repository.create(w.ic.in_memory_storage(), spec_version=1).spec_version
    ),
    "create version 3": lambda w: w.ic.Repository.create(w.ic.in_memory_storage(), spec_version=3),
    "exists": lambda w: w.ic.Repository.exists(w.storage),
    "exists not": lambda w: w.ic.Repository.exists(w.ic.in_memory_storage()),
    "fetch spec version": lambda w: w.ic.Repository.fetch_spec_version(w.storage),
    "fetch spec version of none": lambda w: w.ic.Repository.fetch_spec_version(
        w.ic.in_memory_storage()
    ),
    "fetch config": lambda w: w.ic.Repository.fetch_config(w.storage),
    "spec version": lambda w: int(w.repo.spec_version),
    "save config": config_saved,
    "authorized prefixes": lambda w: w.repo.authorized_virtual_container_prefixes,
}

REFS = {
    "list branches": lambda w: w.repo.list_branches(),
    "lookup branch": lambda w: w.repo.lookup_branch("main"),
    "lookup no branch": lambda w: w.repo.lookup_branch("nope"),
    "create branch": lambda w: (
        w.repo.create_branch("new", w.ids["first"]),
        w.repo.lookup_branch("new"),
    ),
    "create branch that is": lambda w: w.repo.create_branch("dev", w.ids["first"]),
    "create branch nowhere": lambda w: w.repo.create_branch("new", NOBODY),
    "create branch at no id": lambda w: w.repo.create_branch("new", "xx"),
    "delete branch": lambda w: (w.repo.delete_branch("dev"), w.repo.list_branches()),
    "delete no branch": lambda w: w.repo.delete_branch("nope"),
    "delete main": lambda w: w.repo.delete_branch("main"),
    "reset branch": lambda w: (
        w.repo.reset_branch("main", w.ids["first"]),
        w.repo.lookup_branch("main"),
    ),
    "reset branch from": lambda w: (
        w.repo.reset_branch("main", w.ids["first"], from_snapshot_id=w.ids["second"]),
        w.repo.lookup_branch("main"),
    ),
    "reset branch from elsewhere": lambda w: w.repo.reset_branch(
        "main", w.ids["first"], from_snapshot_id=w.ids["root"]
    ),
    "reset branch nowhere": lambda w: w.repo.reset_branch("main", NOBODY),
    "reset no branch": lambda w: w.repo.reset_branch("nope", w.ids["first"]),
    "list tags": lambda w: w.repo.list_tags(),
    "lookup tag": lambda w: w.repo.lookup_tag("v1"),
    "lookup no tag": lambda w: w.repo.lookup_tag("nope"),
    "create tag that is": lambda w: w.repo.create_tag("v1", w.ids["second"]),
    "create tag nowhere": lambda w: w.repo.create_tag("v2", NOBODY),
    "delete tag": lambda w: (w.repo.delete_tag("v1"), w.repo.list_tags()),
    "reuse tag": lambda w: (w.repo.delete_tag("v1"), w.repo.create_tag("v1", w.ids["first"])),
    "delete no tag": lambda w: w.repo.delete_tag("nope"),
}

HISTORY = {
    "ancestry of a branch": lambda w: w.repo.ancestry(branch="main"),
    "ancestry of a tag": lambda w: w.repo.ancestry(tag="v1"),
    "ancestry of a snapshot": lambda w: w.repo.ancestry(snapshot_id=w.ids["second"]),
    "ancestry of nothing": lambda w: list(w.repo.ancestry()),
    "ancestry of no branch": lambda w: list(w.repo.ancestry(branch="nope")),
    "lookup snapshot": lambda w: w.repo.lookup_snapshot(w.ids["first"]),
    "lookup no snapshot": lambda w: w.repo.lookup_snapshot(NOBODY),
    "lookup no id": lambda w: w.repo.lookup_snapshot("zz"),
    "manifest files": lambda w: sorted(
        m.num_chunk_refs for m in w.repo.list_manifest_files(w.ids["second"])
    ),
    "diff": lambda w: w.repo.diff(from_tag="v1", to_branch="main"),
    "diff of all": lambda w: w.repo.diff(
        from_snapshot_id=w.ids["root"], to_snapshot_id=w.ids["second"]
    ),
    "diff backwards": lambda w: w.repo.diff(from_branch="main", to_tag="v1"),
    "diff of nothing": lambda w: w.repo.diff(to_branch="main"),
    "ops log": lambda w: w.repo.ops_log(),
    "inspect snapshot": lambda w: {
        **w.repo.inspect_snapshot(w.ids["first"]),
        "header": None,
        "manifests": None,
    },
    "inspect transaction log": lambda w: {
        **(told := w.repo.inspect_transaction_log(w.ids["second"])),
        "header": None,
        "updated_chunks": sorted(told["updated_chunks"], key=lambda each: each["chunks"]),
    },
    "inspect repo info": lambda w: {
        **w.repo.inspect_repo_info(),
        "header": None,
        "snapshots": sorted(w.repo.inspect_repo_info()["snapshots"], key=lambda s: s["flushed_at"]),
    },
}

SETTINGS = {
    "metadata": lambda w: (
        w.repo.metadata,
        w.repo.set_metadata({"a": 1, "b": [None, "x"]}),
        w.repo.update_metadata({"a": 2.5, "c": {"d": True}}),
        w.repo.get_metadata(),
    ),
    "status": status,
    "feature flags": flags,
    "unknown feature flag": lambda w: w.repo.set_feature_flag("nope", True),
    "default commit metadata": default_metadata,
    "storage stats": lambda w: (
        w.repo.chunk_storage_stats(),
        w.repo.chunk_storage_stats().native_bytes > 0,
    ),
    "rewrite manifests": lambda w: (
        w.repo.rewrite_manifests("anew", branch="main") == w.repo.lookup_branch("main"),
        [info.message for info in w.repo.ancestry(branch="main")],
        names_below(w),
    ),
    "expire and collect": expired,
    "collect nothing": lambda w: w.repo.garbage_collect(LONG_AGO),
    "collect without a time zone": lambda w: w.repo.garbage_collect(WITHOUT_ZONE),
    "expire without a time zone": lambda w: w.repo.expire_snapshots(WITHOUT_ZONE),
    "rearrange where moves are forbidden": lambda w: (
        w.repo.set_feature_flag("move_node", False),
        w.repo.rearrange_session("main"),
    ),
}

SESSIONS = {
    "readonly session": lambda w: w.repo.readonly_session("main"),
    "readonly session of a tag": lambda w: w.repo.readonly_session(tag="v1"),
    "readonly session of a snapshot": lambda w: w.repo.readonly_session(snapshot_id=w.ids["first"]),
    "readonly session of nothing": lambda w: w.repo.readonly_session(),
    "readonly session of two": lambda w: w.repo.readonly_session("main", tag="v1"),
    "readonly session of no branch": lambda w: w.repo.readonly_session("nope"),
    "readonly session of no tag": lambda w: w.repo.readonly_session(tag="nope"),
    "readonly session of no snapshot": lambda w: w.repo.readonly_session(snapshot_id=NOBODY),
    "readonly session of no id": lambda w: w.repo.readonly_session(snapshot_id="xx"),
    "as of now": lambda w: w.repo.readonly_session("main", as_of=dt.datetime.now(dt.UTC)),
    "as of a moment": lambda w: w.repo.readonly_session(
        "main", as_of=w.repo.lookup_snapshot(w.ids["first"]).written_at
    ),
    "as of long ago": lambda w: w.repo.readonly_session("main", as_of=LONG_AGO),
    "as of no time zone": lambda w: w.repo.readonly_session("main", as_of=WITHOUT_ZONE),
    "as of without a branch": lambda w: w.repo.readonly_session(tag="v1", as_of=LONG_AGO),
    "writable session": lambda w: w.repo.writable_session("main"),
    "writable session of no branch": lambda w: w.repo.writable_session("nope"),
    "rearrange session": lambda w: w.repo.rearrange_session("main"),
    "write read-only": lambda w: add("x")(group(w.repo.readonly_session("main"))),
    "status of changes": lambda w: changed(w, write(3)).status(),
    "status of a new array": lambda w: changed(
        w, lambda root: root.create_array("n", shape=(2,), chunks=(1,), dtype="i1")
    ).status(),
    "status of a deletion": lambda w: changed(w, lambda root: root.__delitem__("b")).status(),
    "status of attributes": lambda w: changed(w, lambda root: root["a"].attrs.update(k=1)).status(),
    "discard": lambda w: (s := changed(w, add("x")), s.discard_changes(), s.status())[1:],
    "discard read-only": lambda w: w.repo.readonly_session("main").discard_changes(),
    "same sessions": lambda w: (
        w.repo.readonly_session("main") == w.repo.readonly_session("main"),
        (s := w.repo.writable_session("main")) == s,
        s.store == s.store,
    ),
}

COMMITS = {
    "commit": commit_of(add("x")),
    "commit with metadata": lambda w: (
        changed(w, add("x")).commit("m", {"k": [1, 2.5, None, {"a": "b"}]}) and None,
        next(iter(w.repo.ancestry(branch="main"))).metadata,
    ),
    "commit nothing": lambda w: w.repo.writable_session("main").commit("none"),
    "commit nothing allowed": commit_of(lambda root: None, allow_empty=True),
    "commit read-only": lambda w: w.repo.readonly_session("main").commit("no"),
    "commit twice": lambda w: (s := changed(w, add("x")), s.commit("one"), s.commit("two")),
    "write after commit": lambda w: (
        s := changed(w, add("x")),
        root := group(s),
        s.commit("one"),
        root.create_group("late"),
    ),
    "commit behind": lambda w: diverged(w, add("x"), add("y")).commit("behind"),
    "commit behind with rebase": lambda w: (
        diverged(w, add("x"), add("y")).commit("on top", rebase_with=w.ic.ConflictDetector())
        and None,
        names_below(w),
        next(iter(w.repo.ancestry(branch="main"))).metadata,
    ),
    "commit with a rebase that nobody needs": lambda w: (
        changed(w, add("x")).commit("m", {"k": 1}, rebase_with=w.ic.ConflictDetector()) and None,
        next(iter(w.repo.ancestry(branch="main"))).metadata,
    ),
    "commit no message": lambda w: changed(w, add("x")).commit(None),
    "commit with a conflict": lambda w: both_write(w).commit(
        "no", rebase_with=w.ic.ConflictDetector()
    ),
    "rebase nothing": lambda w: w.repo.writable_session("main").rebase(w.ic.ConflictDetector()),
    "rebase read-only": lambda w: w.repo.readonly_session("main").rebase(w.ic.ConflictDetector()),
    "rebase apart": lambda w: rebased(
        w, w.ic.ConflictDetector(), lambda w: diverged(w, add("x"), add("y"))
    ),
    "rebase in conflict": lambda w: both_write(w).rebase(w.ic.ConflictDetector()),
    "rebase for ours": lambda w: rebased(w, w.ic.BasicConflictSolver()),
    "rebase failing": lambda w: both_write(w).rebase(
        w.ic.BasicConflictSolver(on_chunk_conflict=w.ic.VersionSelection.Fail)
    ),
    "rebase metadata": lambda w: diverged(
        w,
        lambda root: root["a"].attrs.update(k=1),
        lambda root: root["a"].attrs.update(k=2),
    ).rebase(w.ic.BasicConflictSolver()),
    "rebase of the same new node": lambda w: diverged(w, add("x"), add("x")).rebase(
        w.ic.ConflictDetector()
    ),
    "rebase onto a deleted array": lambda w: diverged(
        w, write(4), lambda root: root.__delitem__("a")
    ).rebase(w.ic.BasicConflictSolver()),
    "amend": lambda w: amended(w, add("x"), metadata={"k": 1}),
    "amend nothing": lambda w: w.repo.writable_session("main").amend("no"),
    "amend nothing allowed": lambda w: amended(w, lambda root: None, allow_empty=True),
    "amend the first": lambda w: (
        w.repo.reset_branch("dev", w.ids["root"]),
        w.repo.writable_session("dev").amend("no", allow_empty=True),
    ),
    "flush": flushed,
    "transaction": transaction,
    "transaction with metadata": lambda w: transaction(w, metadata={"k": 1}),
    "failed transaction": failed_transaction,
    "transaction on no branch": lambda w: w.repo.transaction("nope", message="m").__enter__(),
}

NODES = {
    "node id": lambda w: w.repo.readonly_session("main").get_node_id("/a"),
    "no node id": lambda w: w.repo.readonly_session("main").get_node_id("/zz"),
    "node id of no path": lambda w: w.repo.readonly_session("main").get_node_id("a"),
    "chunk types": lambda w: [
        w.repo.readonly_session("main").chunk_type(path, index)
        for path, index in (("/a", [0, 0]), ("/a", [9, 9]), ("/b/t", [1]))
    ],
    "chunk type of a group": lambda w: w.repo.readonly_session("main").chunk_type("/b", [0]),
    "chunk type of nothing": lambda w: w.repo.readonly_session("main").chunk_type("/zz", [0]),
    "chunk coordinates": lambda w: chunks(w.repo.readonly_session(tag="v1"), "/a"),
    "chunk coordinates of a group": lambda w: chunks(w.repo.readonly_session("main"), "/b"),
    "virtual locations": lambda w: w.repo.readonly_session("main").all_virtual_chunk_locations(),
    "move": lambda w: moved_names(w, "/a", "/b/a2"),
    "move a group": lambda w: moved_names(w, "/b", "/bb"),
    "move in a writable session": lambda w: w.repo.writable_session("main").move("/a", "/z"),
    "move read-only": lambda w: w.repo.readonly_session("main").move("/a", "/z"),
    "move nothing": lambda w: w.repo.rearrange_session("main").move("/zz", "/y"),
    "move onto another": lambda w: w.repo.rearrange_session("main").move("/a", "/b"),
    "move into itself": lambda w: w.repo.rearrange_session("main").move("/b", "/b/c/d"),
    "move to no group": lambda w: w.repo.rearrange_session("main").move("/a", "/nope/a"),
    "move into an array": lambda w: w.repo.rearrange_session("main").move("/b", "/a/b"),
    "move no path": lambda w: w.repo.rearrange_session("main").move("a", "z"),
    "write while rearranging": lambda w: add("x")(group(w.repo.rearrange_session("main"))),
    "shift": lambda w: shifted(w, (1, 0)),
    "shift back": lambda w: shifted(w, (-1, -1)),
    "shift nothing": lambda w: w.repo.writable_session("main").shift_array("/zz", (1, 0)),
    "shift a group": lambda w: w.repo.writable_session("main").shift_array("/b", (1,)),
    "shift read-only": lambda w: w.repo.readonly_session("main").shift_array("/a", (1, 0)),
    "reindex": lambda w: reindexed(w, lambda index: [(index[0] + 1) % 3, index[1]]),
    "reindex to nowhere": lambda w: reindexed(w, lambda index: None),
    "reindex nothing": lambda w: w.repo.writable_session("main").reindex_array(
        "/zz", lambda index: index
    ),
    "reindex out of the grid": lambda w: w.repo.writable_session("main").reindex_array(
        "/a", lambda index: [9, 9]
    ),
    "reindex with a way back": lambda w: reindexed(
        w,
        lambda index: [index[0] + 1, index[1]] if index[0] < 2 else None,
        lambda index: [index[0] - 1, index[1]] if index[0] > 0 else None,
    ),
}

FORKS = {
    "fork": lambda w: w.repo.writable_session("main").fork(),
    "fork read-only": lambda w: w.repo.readonly_session("main").fork(),
    "fork with changes": lambda w: changed(w, add("x")).fork().status(),
    "fork and merge": forked,
    "merge into read-only": lambda w: w.repo.readonly_session("main").merge(
        w.repo.writable_session("main").fork()
    ),
    "merge while rearranging": lambda w: w.repo.rearrange_session("main").merge(
        w.repo.writable_session("main").fork()
    ),
    "shift in a fork": lambda w: (
        session := w.repo.writable_session("main"),
        fork := session.fork(),
        fork.shift_array("/a", (1, 0)),
        session.merge(fork),
        group(session)["a"][:].tolist(),
    )[2:],
    "commit a fork": lambda w: w.repo.writable_session("main").fork().commit("no"),
}

READING = HISTORY | {
    name: call
    for name, call in (SESSIONS | NODES | OPENING).items()
    if name.startswith(("readonly", "as of", "node id", "no node", "chunk", "fetch", "exists"))
}
"""What changes nothing."""

STORED = REFS | SETTINGS | COMMITS
"""What is worth while to try on disk, too."""

CALLS = OPENING | REFS | HISTORY | SETTINGS | SESSIONS | COMMITS | NODES | FORKS
