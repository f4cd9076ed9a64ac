"""What is kept of parsed sources while several threads, or another run, are at it."""

from concurrent.futures import ThreadPoolExecutor

from zfuse.ingest.sources import Source
from zfuse.ingest.workers import _Kept

SOURCE = Source("file:///data/one.zarr")
DATA = bytes(100_000)


def test_one_source_is_kept_by_many_at_once(tmp_path):
    kept = _Kept(tmp_path / "kept")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: kept.keep(SOURCE, DATA), range(500)))
    (file,) = (tmp_path / "kept").iterdir()
    assert file.read_bytes() == DATA


def test_what_another_run_forgets_meanwhile_is_no_failure(tmp_path):
    kept, others = _Kept(tmp_path / "kept"), _Kept(tmp_path / "kept")
    with ThreadPoolExecutor(2) as pool:
        keeping = pool.submit(lambda: [kept.keep(SOURCE, DATA) for _ in range(500)])
        while not keeping.done():
            others.forget()
        keeping.result()
    others.forget()
    assert not (tmp_path / "kept").exists()
