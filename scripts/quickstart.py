"""The Python half of scripts/quickstart: makes the repository, and reads it through the mount.

    python scripts/quickstart.py make REPOSITORY DATA    (directories; it makes both)
    python scripts/quickstart.py read MOUNTPOINT
    python scripts/quickstart.py write MOUNTPOINT
    python scripts/quickstart.py check REPOSITORY        (what write wrote, with icechunk)

The official library makes the repository, so that there is something to read that zfuse did not
write; what is written through the mount it then reads.
"""

import sys
import warnings
from datetime import UTC, datetime
from pathlib import Path

import icechunk
import numpy as np
import xarray
import zarr

RNG_SEED = 7
GRID = (12, 16)


def temperature(version: int) -> np.ndarray:
    """Return 4 time steps on a grid; the second version has its last step corrected."""
    values = np.random.default_rng(RNG_SEED).normal(288, 10, (4, *GRID)).astype("f4")
    if version > 1:
        values[3] += 1
    return values


def elevation() -> np.ndarray:
    """Return one number per grid cell."""
    return np.arange(np.prod(GRID), dtype="i4").reshape(GRID)


def rainfall() -> np.ndarray:
    """Return a year of days, which is stored by calendar month."""
    return np.random.default_rng(RNG_SEED + 1).gamma(2, 3, 365)


def pressure() -> np.ndarray:
    """Return what lies in somebody else's file."""
    return np.linspace(950, 1050, 200).reshape(10, 20)


MONTHS = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]


def make(place: Path, data: Path) -> None:
    """Make the repository: two commits on main, the tag v1.0, and the branch draft."""
    prefix = f"file://{data}/"
    config = icechunk.RepositoryConfig.default()
    store = icechunk.local_filesystem_store(str(data))
    config.set_virtual_chunk_container(icechunk.VirtualChunkContainer(prefix, store))
    repository = icechunk.Repository.create(icechunk.local_filesystem_storage(str(place)), config)
    repository.save_config()

    session = repository.writable_session("main")
    _write_arrays(session.store, data)
    first = session.commit("Add temperature, elevation, rainfall and pressure")
    repository.create_tag("v1.0", first)
    repository.create_branch("draft", first)

    session = repository.writable_session("main")
    zarr.open_group(session.store)["temperature"][3] = temperature(2)[3]
    session.commit("Correct the last time step of temperature")

    session = repository.writable_session("draft")
    zarr.open_group(session.store)["elevation"][:] = elevation() * 10
    session.commit("Try elevation in decimetres")
    print("made a repository with three commits, the branches main and draft, and the tag v1.0")


def _write_arrays(store: zarr.abc.store.Store, data: Path) -> None:
    group = zarr.create_group(store, attributes={"title": "zfuse quick start"})

    regular = group.create_array(
        "temperature",
        shape=(4, *GRID),
        chunks=(1, *GRID),
        dtype="f4",
        dimension_names=["time", "y", "x"],
        attributes={"units": "K"},
    )
    regular[:] = temperature(1)

    sharded = group.create_array(
        "elevation",
        shape=GRID,
        chunks=(3, 4),
        shards=(6, 8),
        dtype="i4",
        dimension_names=["y", "x"],
    )
    sharded[:] = elevation()

    rectilinear = group.create_array(
        "rainfall", shape=(365,), chunks=[MONTHS], dtype="f8", dimension_names=["day"]
    )
    rectilinear[:] = rainfall()

    virtual = group.create_array(
        "pressure",
        shape=(10, 20),
        chunks=(5, 20),
        dtype="f8",
        compressors=None,
        dimension_names=["level", "station"],
    )
    source = data / "pressure.raw"
    source.write_bytes(pressure().tobytes())
    # With the time on record, readers notice when somebody changes the file.
    written = datetime.fromtimestamp(int(source.stat().st_mtime), UTC)
    size = virtual.nbytes // 2
    for number in range(2):
        store.set_virtual_ref(
            f"pressure/c/{number}/0",
            f"file://{source}",
            offset=number * size,
            length=size,
            checksum=written,
        )


def read(mountpoint: Path) -> int:
    """Read every version through the mount with xarray, and compare with what was written."""
    main = _open(mountpoint / "branch" / "main")
    print(main)
    tagged = _open(mountpoint / "tag" / "v1.0")
    draft = _open(mountpoint / "branch" / "draft")
    checks = [
        ("branch/main temperature (regular)", main.temperature, temperature(2)),
        ("branch/main elevation (sharded)", main.elevation, elevation()),
        ("branch/main rainfall (rectilinear)", main.rainfall, rainfall()),
        ("branch/main pressure (virtual)", main.pressure, pressure()),
        ("tag/v1.0 temperature", tagged.temperature, temperature(1)),
        ("branch/draft elevation", draft.elevation, elevation() * 10),
    ]
    wrong = 0
    print()
    for name, array, expected in checks:
        same = np.array_equal(array.values, expected)
        wrong += not same
        print(f"{name:<36} mean {array.values.mean():8.3f}  {'as written' if same else 'WRONG'}")
    return 1 if wrong else 0


def write(mountpoint: Path) -> None:
    """Change an array on the branch draft, and add one, with zarr-python on the mount."""
    draft = zarr.open_group(mountpoint / "branch" / "draft")
    draft["temperature"][0] = 273.15
    draft.create_array("depth", data=depth(), chunks=(6, 8), dimension_names=["y", "x"])


def depth() -> np.ndarray:
    """Return one number per grid cell."""
    return np.linspace(0, 30, int(np.prod(GRID))).reshape(GRID)


def check(place: Path) -> int:
    """Compare what the official library reads with what was written through the mount."""
    repository = icechunk.Repository.open(icechunk.local_filesystem_storage(str(place)))
    draft = zarr.open_group(repository.readonly_session("draft").store, mode="r")
    same = np.array_equal(draft["depth"][:], depth()) and bool(
        (draft["temperature"][0] == np.float32(273.15)).all()
    )
    print("icechunk reads", "the same values" if same else "other values: WRONG")
    return 0 if same else 1


def _open(path: Path) -> xarray.Dataset:
    return xarray.open_dataset(path, engine="zarr", consolidated=False, chunks=None)


def main() -> int:
    """Do what the command line says."""
    warnings.simplefilter("ignore")  # of libraries, about what is experimental in them
    icechunk.set_logs_filter("error")
    with zarr.config.set({"array.rectilinear_chunks": True}):
        match sys.argv[1:]:
            case ["make", repository, data]:
                Path(data).mkdir(parents=True, exist_ok=True)
                make(Path(repository).absolute(), Path(data).absolute())
                return 0
            case ["read", mountpoint]:
                return read(Path(mountpoint))
            case ["write", mountpoint]:
                write(Path(mountpoint))
                return 0
            case ["check", repository]:
                return check(Path(repository).absolute())
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
