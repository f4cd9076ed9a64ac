"""Damaged files are refused in the one proper way, within bounds of memory and time."""

import random
import subprocess
import sys
from pathlib import Path

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.format.building import flexbuffer
from tests.format.damage import DATA, EXERCISES, damage, damaged_file, golden_files
from tests.format.exercise import REFUSALS, config, exercise
from zfuse.format.values import decode_flexbuffer, decode_msgpack
from zfuse.format.zarr_json import ArrayMetadata

FILES = golden_files()
MANY = settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
RANDOM = st.randoms(use_true_random=False)
VALUE = {"a": [1, 2, 3], "b": {"c": "text", "d": [0.5, None, "x"]}, "long": ["y" * 50] * 3}


@pytest.mark.parametrize("kind", EXERCISES, ids=lambda kind: kind.name)
def test_golden_files_are_sound(kind):
    assert len(FILES[kind]) > 3
    assert all(map(exercise, FILES[kind]))


@pytest.mark.parametrize("kind", EXERCISES, ids=lambda kind: kind.name)
@MANY
@given(rng=RANDOM)
def test_damaged_files(kind, rng):
    exercise(damaged_file(rng.choice(FILES[kind]), rng))


@pytest.mark.parametrize("kind", EXERCISES, ids=lambda kind: kind.name)
def test_damage_is_of_both_sorts(kind):
    # else the tests above would show nothing
    rng = random.Random(1)
    read = [exercise(damaged_file(rng.choice(FILES[kind]), rng)) for _ in range(300)]
    assert 20 < sum(read) < 280


@pytest.mark.parametrize("kind", EXERCISES, ids=lambda kind: kind.name)
@MANY
@given(first=st.sampled_from(list(EXERCISES)), rng=RANDOM)
def test_files_of_another_kind(kind, first, rng):
    data = bytearray(rng.choice(FILES[first]))
    data[37] = kind
    exercise(bytes(data))


@MANY
@given(st.binary(max_size=200))
def test_any_bytes(data):
    assert not exercise(data)
    assert not exercise(FILES[1][0][:39] + data)


def refused(read, data):
    try:
        read(data)
    except REFUSALS as refusal:
        assert "\n" not in str(refusal)  # noqa: PT017
        return True
    return False


@pytest.mark.parametrize(
    ("decode", "sound"),
    [(decode_flexbuffer, flexbuffer(VALUE)), (decode_msgpack, msgpack.packb(VALUE))],
    ids=["flexbuffer", "msgpack"],
)
@MANY
@given(rng=RANDOM)
def test_damaged_values(decode, sound, rng):
    refused(decode, damage(sound, rng))


@MANY
@given(st.binary(max_size=60))
def test_values_of_any_bytes(data):
    refused(decode_flexbuffer, data)
    refused(decode_msgpack, data)


CONFIGS = [path.read_bytes() for path in sorted(DATA.glob("*/repository/config.yaml"))]


@MANY
@given(rng=RANDOM)
def test_damaged_config_yaml(rng):
    refused(config, damage(rng.choice(CONFIGS), rng))


@MANY
@given(rng=RANDOM)
def test_damaged_zarr_json(rng):
    document = b'{"node_type":"array","shape":[4,4],"chunk_grid":{"name":"rectilinear",'
    document += b'"configuration":{"kind":"inline","chunk_shapes":[[[2,2]],[1,3]]}},'
    document += b'"codecs":["bytes"],"data_type":{"name":"x"},"chunk_key_encoding":"v2"}'
    refused(ArrayMetadata.parse, damage(document, rng))


def test_within_limits_of_memory_and_time():
    done = subprocess.run(
        [sys.executable, "-m", "tests.format.damage", "7", "6000"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "of 6000 were read" in done.stdout
