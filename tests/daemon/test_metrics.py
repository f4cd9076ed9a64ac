from zfuse.daemon.metrics import Metric, counter, exposition, gauge, storage_metrics
from zfuse.storage.memory import MemoryStorage
from zfuse.storage.retry import RetryingStorage


def test_the_text_is_what_prometheus_reads():
    told = exposition([gauge("memory_bytes", "Bytes held.", 1.5), counter("x_total", "X.", 3)])
    assert told.decode().splitlines() == [
        "# HELP zfuse_memory_bytes Bytes held.",
        "# TYPE zfuse_memory_bytes gauge",
        "zfuse_memory_bytes 1.5",
        "# HELP zfuse_x_total X.",
        "# TYPE zfuse_x_total counter",
        "zfuse_x_total 3",
    ]


def test_counters_are_exact():
    assert exposition([counter("x", "X.", 2**40 + 1)]).endswith(b" 1099511627777\n")


def test_labels_are_escaped():
    odd = Metric("x", "gauge", "X.", [({"store": 'a"b\\c\nd'}, 1)])
    assert exposition([odd]).decode().splitlines()[-1] == r'zfuse_x{store="a\"b\\c\nd"} 1'


async def test_each_store_tells_its_calls_by_verb():
    storages = [RetryingStorage(MemoryStorage()) for _ in range(2)]
    await storages[0].put("k", b"12345")
    await storages[0].get("k")
    await storages[0].get("k")
    calls, moved, errors, retries = storage_metrics(storages)
    assert len(calls.samples) == 2 * 6
    by_verb = {labels["verb"]: value for labels, value in calls.samples[:6]}
    assert by_verb == {"get": 2, "put": 1, "get_range": 0, "head": 0, "delete": 0, "list": 0}
    assert [value for _, value in moved.samples] == [10, 5, 0, 0]
    assert [value for _, value in errors.samples + retries.samples] == [0, 0, 0, 0]
