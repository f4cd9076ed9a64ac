"""What makes no sense is refused: in one line, with nothing changed."""

import copy
import logging
import pickle

import pytest

import zfuse
from tests.api.everyday import add, changed, make_world


@pytest.fixture
def world():
    """Return a repository in memory with some history."""
    return make_world(zfuse, zfuse.in_memory_storage())


REFUSED = {
    "gc without a cut-off": (lambda w: w.repo.garbage_collect(None), TypeError),
    "gc with a text": (lambda w: w.repo.garbage_collect("2020-01-01"), TypeError),
    "gc misspelt": (lambda w: w.repo.garbage_collect(None, dryrun=True), TypeError),
    "expire without a cut-off": (lambda w: w.repo.expire_snapshots(None), TypeError),
    "delete main": (lambda w: w.repo.delete_branch("main"), zfuse.SessionStateError),
    "reset to no snapshot": (
        lambda w: w.repo.reset_branch("main", "1CECHNKREP0F1RSTCMTG"),
        zfuse.SnapshotNotFoundError,
    ),
    "metadata without texts": (
        lambda w: changed(w, add("x")).commit("m", {1: 2}),
        TypeError,
    ),
    "metadata that JSON has not": (
        lambda w: changed(w, add("x")).commit("m", {"a": object()}),
        zfuse.InvalidInputError,
    ),
    "repository metadata": (lambda w: w.repo.set_metadata({"a": {1}}), zfuse.InvalidInputError),
    "a branch of no name": (lambda w: w.repo.writable_session(None), zfuse.RefNotFoundError),
    "merge of what is no fork": (
        lambda w: w.repo.writable_session("main").merge(w.repo.writable_session("main")),
        zfuse.SessionStateError,
    ),
    "a place without a repository": (
        lambda w: zfuse.Repository.open(zfuse.local_filesystem_storage("/nonexistent/x")),
        zfuse.RepositoryNotFoundError,
    ),
    "a place on the web": (
        lambda w: zfuse.Repository.create(zfuse.http_storage("http://127.0.0.1:9/x")),
        zfuse.IcechunkError,
    ),
    "no bucket": (lambda w: zfuse.s3_storage(bucket="", prefix="p"), zfuse.InvalidInputError),
    "no web address": (lambda w: zfuse.http_storage("ftp://x"), zfuse.InvalidInputError),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_makes_no_sense_is_refused(name, world):
    """With an error that says so, and the repository is as it was."""
    call, error = REFUSED[name]
    before = world.repo.inspect_repo_info()
    with pytest.raises(error) as caught:
        call(world)
    assert "\n" not in str(caught.value)
    assert str(caught.value)
    assert world.repo.inspect_repo_info() == before


def test_an_upgrade_makes_version_2_of_version_1():
    """A dry run changes nothing; afterwards everything is there, and can be used."""
    repo = zfuse.Repository.create(zfuse.in_memory_storage(), spec_version=1)
    session = repo.writable_session("main")
    made = session.commit("first", allow_empty=True)
    repo.create_tag("v1", made)
    with pytest.raises(zfuse.FormatError, match="version 1"):
        repo.set_metadata({"a": 1})
    assert zfuse.upgrade_icechunk_repository(repo, dry_run=True).spec_version == 1
    upgraded = zfuse.upgrade_icechunk_repository(repo, dry_run=False)
    assert upgraded.spec_version == zfuse.SpecVersion.v2 == zfuse.supported_spec_versions()[0]
    assert next(info.message for info in upgraded.ancestry(tag="v1")) == "first"
    upgraded.set_metadata({"a": 1})
    assert repo.metadata == {"a": 1}


def test_nested_classes_are_copied_and_pickled_by_their_official_names():
    """As they go to other processes in sessions."""
    values = [
        zfuse.ObjectStoreConfig.S3(zfuse.S3Options(region="r")),
        zfuse.ManifestSplitDimCondition.Axis(3),
        zfuse.Credentials.S3(zfuse.S3Credentials.Anonymous()),
        zfuse.UpdateType.TagCreated("v1"),
    ]
    assert pickle.loads(pickle.dumps(values)) == copy.deepcopy(values) == values
    assert [type(value).__qualname__ for value in values] == [
        "ObjectStoreConfig.S3",
        "ManifestSplitDimCondition.Axis",
        "Credentials.S3",
        "UpdateType.TagCreated",
    ]
    assert isinstance(values[0], zfuse.ObjectStoreConfig)


def test_a_drawing_shows_who_came_from_whom(world):
    """All refs, or the history of one."""
    session = world.repo.writable_session("dev")
    world.ids["third"] = session.commit("third", allow_empty=True)
    short = {name: made[:8] for name, made in world.ids.items()}
    assert str(world.repo.ancestry_graph()).splitlines() == [
        f"* {short['third']} (dev) third",
        f"| * {short['second']} (main) second",
        "|/",
        f"* {short['first']} (v1) first",
        f"* {short['root']} Repository initialized",
    ]
    graph = world.repo.ancestry_graph(tag="v1", plain=True)
    assert str(graph).splitlines()[0] == f"* {short['first']} (v1) first"
    assert graph._repr_svg_().startswith("<svg")


def test_log_levels_are_those_of_logging():
    """Under the official library's words."""
    zfuse.initialize_logs()
    for words, level in (("off", 51), ("zfuse::x=trace,warn", 30), ("debug", 10), (None, 0)):
        zfuse.set_logs_filter(words)
        assert logging.getLogger("zfuse").level == level
    zfuse.shutdown_telemetry()
