import pytest

from zfuse.errors import InvalidInputError
from zfuse.format.ids import INITIAL_SNAPSHOT, ObjectId
from zfuse.format.layout import backup_name, overwritten_key
from zfuse.format.ref_file import branch_key, encode_ref, tag_key, tombstone_key
from zfuse.repo.refs_v1 import parse_ref


def test_content():
    assert encode_ref(INITIAL_SNAPSHOT) == b'{"snapshot":"1CECHNKREP0F1RSTCMT0"}'
    assert parse_ref(encode_ref(INITIAL_SNAPSHOT), "key") == INITIAL_SNAPSHOT


def test_keys():
    assert branch_key("main", encoded_names=True) == "refs/branch.main/ref.json"
    assert tag_key("v1.0 ü", encoded_names=False) == "refs/tag.v1.0 ü/ref.json"
    assert tag_key("v1.0 ü", encoded_names=True) == "refs/tag.v1.0 %C3%BC/ref.json"
    assert tombstone_key("a~b", encoded_names=True) == "refs/tag.a%7Eb/ref.json.deleted"
    assert branch_key("..", encoded_names=True) == "refs/branch.../ref.json"
    assert len(branch_key("n" * 300, encoded_names=False)) > 300
    assert branch_key("n" * 248, encoded_names=True).startswith("refs/branch.nnn")


@pytest.mark.parametrize("key", [branch_key, tag_key, tombstone_key])
@pytest.mark.parametrize("name", ["a/b", "/", "\ud800", "n" * 300, "é" * 50])
def test_names_that_version_1_can_not_hold(key, name):
    with pytest.raises(InvalidInputError):
        key(name, encoded_names=True)


def test_backups_are_sorted_with_the_newest_first():
    unique = ObjectId(bytes(12))
    names = [backup_name("repo", at, unique) for at in (0, 1_700_000_000_000_000, 2 * 10**15)]
    assert names[0] == "repo.32503680000000.00000000000000000000"
    assert names == sorted(names, reverse=True)
    assert overwritten_key(names[1]) == "overwritten/repo.30803680000000.00000000000000000000"
