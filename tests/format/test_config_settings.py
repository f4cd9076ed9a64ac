import pytest

from zfuse.errors import InvalidInputError
from zfuse.format.config_settings import (
    SETTINGS,
    check_settings,
    completed,
    find,
    known_setting,
    put,
    unknown_settings,
)

GOOD = {
    "compression.algorithm": ["zstd", None],
    "compression.level": [0, 255],
    "storage.storage_class": ["", "x"],
    "storage.unsafe_use_metadata": [True, False],
    "manifest.virtual_chunk_location_compression.compression_level": [-7, 22],
    "manifest.preload.preload_if": [
        "true",
        {"num_refs": {"from": {"Excluded": 1}, "to": "Unbounded"}},
        {"and": [{"or": []}, {"name_matches": {"regex": "("}}]},
    ],
    "manifest.splitting.split_sizes": [
        [],
        [["any_array", []]],
        [[{"path_matches": {"regex": "x"}}, [{"condition": {"Axis": 0}, "num_chunks": 1}]]],
        [("any_array", [{"condition": {"DimensionName": "t"}, "num_chunks": 2**32 - 1}])],
    ],
}
BAD = {
    "compression.algorithm": ["gzip", 3],
    "compression.level": [-1, 256, 1.0, "3", True],
    "storage.storage_class": [5],
    "storage.unsafe_use_metadata": [0, "false"],
    "storage.retries.max_tries": [0],
    "manifest.virtual_chunk_location_compression.compression_level": [2**31],
    "manifest.preload.preload_if": [
        True,
        "any_array",
        {},
        {"or": "true"},
        {"or": [], "and": []},
        {"name_matches": "x"},
        {"name_matches": {"regex": 5}},
        {"num_refs": 5},
        {"num_refs": {"from": 1, "to": "Unbounded"}},
        {"num_refs": {"from": {"Included": -1}, "to": "Unbounded"}},
        {"num_refs": {"from": {"Included": 1, "Excluded": 2}, "to": "Unbounded"}},
        {"num_refs": {"from": {}, "to": "Unbounded"}},
    ],
    "manifest.splitting.split_sizes": [
        {},
        ["any_array"],
        [["any_array"]],
        [["true", []]],
        [["any_array", [{"condition": "Any"}]]],
        [["any_array", [{"condition": "All", "num_chunks": 1}]]],
        [["any_array", [{"condition": "Any", "num_chunks": 0}]]],
        [["any_array", [{"condition": {"Axis": "x"}, "num_chunks": 1}]]],
        [["any_array", [{"condition": {"DimensionName": 1}, "num_chunks": 1}]]],
        [["any_array", [{"condition": {"Axis": 1, "DimensionName": "t"}, "num_chunks": 1}]]],
        [["any_array", [5]]],
        [[{"num_refs": {"from": "Unbounded", "to": "Unbounded"}}, []]],
    ],
}


@pytest.mark.parametrize(("key", "value"), [(k, v) for k, each in GOOD.items() for v in each])
def test_what_a_setting_can_be(key, value):
    assert SETTINGS[key].takes(value)
    check_settings(put({}, key, value), {})


@pytest.mark.parametrize(("key", "value"), [(k, v) for k, each in BAD.items() for v in each])
def test_what_a_setting_can_not_be(key, value):
    values = put({}, key, value)
    with pytest.raises(InvalidInputError, match=f"{key} can not be"):
        check_settings(values, {})
    check_settings(values, values)  # it was so before: then it does not get in the way


def test_groups_of_settings_are_mappings():
    with pytest.raises(InvalidInputError, match=r"manifest\.preload is a group"):
        check_settings({"manifest": {"preload": 5}}, {})


def test_settings_are_put_and_found():
    values = put({"manifest": None, "future": 1}, "manifest.preload.max_total_refs", 5)
    assert values == {"manifest": {"preload": {"max_total_refs": 5}}, "future": 1}
    assert find(values, "manifest.preload.max_total_refs") == 5
    assert find(values, "manifest.splitting.split_sizes") is None
    assert find(values, "future.part") is None


def test_what_is_saved_names_every_setting_of_a_group_in_use():
    whole = completed({"storage": {"retries": {"max_tries": 3}}, "future": {"a": 1}})
    assert list(whole)[:2] == ["inline_chunk_threshold_bytes", "get_partial_values_concurrency"]
    assert whole["compression"] is None
    assert whole["storage"]["retries"] == {
        "max_tries": 3,
        "initial_backoff_ms": None,
        "max_backoff_ms": None,
    }
    assert whole["storage"]["storage_class"] is None
    assert whole["future"] == {"a": 1}
    assert completed(whole) == whole


def test_settings_that_zfuse_does_not_know():
    values = {"new": 1, "compression": {"level": 5, "window": 9}, "manifest": {"new": {"a": 1}}}
    values |= {"virtual_chunk_containers": {"s3://b/": {}}, "previous_file": None}
    found = {"new": 1, "compression.window": 9, "manifest.new": {"a": 1}}
    assert dict(unknown_settings(values)) == found
    assert dict(unknown_settings(completed({}))) == {}


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("compression.levle", "did you mean compression.level?"),
        ("compression", "did you mean compression"),
        ("zzz", "zfuse config show names all"),
        ("virtual_chunk_containers.x", "zfuse container add"),
    ],
)
def test_an_unknown_name_gets_the_nearest(key, words):
    with pytest.raises(InvalidInputError, match=words):
        known_setting(key)
