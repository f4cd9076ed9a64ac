"""Files on a web server."""

import icechunk
import netCDF4
import numpy as np
import pytest

from tests.ingest.archive import arrays_of
from zfuse.errors import AccessDeniedError, NotFoundError

pytestmark = pytest.mark.compat


def make(path) -> None:
    with netCDF4.Dataset(path, "w") as file:
        file.createDimension("x", 6)
        file.createVariable("t", "f8", ("x",), zlib=True, chunksizes=(2,))[:] = np.arange(6.0)


@pytest.mark.parametrize("name", ["file.nc", "a b.nc", "é.nc"])
async def test_a_file(archive, nginx, name):
    make(nginx.root / name)
    quoted = name.replace(" ", "%20").replace("é", "%C3%A9")
    report = await archive.ingest(f"{nginx.url}/{quoted}")
    assert [c.url_prefix for c in report.containers] == [f"{nginx.url}/"]
    access = icechunk.credentials.HttpAccess
    store = archive.store(dict.fromkeys(archive.containers(), access))
    assert np.array_equal(arrays_of(store)["t"], np.arange(6.0))


async def test_what_is_not_there_or_not_allowed(archive, nginx):
    with pytest.raises(NotFoundError, match=r"nothing\.nc does not exist"):
        await archive.ingest(f"{nginx.url}/nothing.nc")
    with pytest.raises(AccessDeniedError, match="may not be read"):
        await archive.ingest(f"{nginx.url}/private/x.nc", kind="hdf5")
