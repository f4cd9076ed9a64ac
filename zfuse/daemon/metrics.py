"""Counters and gauges in Prometheus' text format.

Format: "Text-based format" of the Prometheus exposition formats, version 0.0.4.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from zfuse.storage.retry import RetryingStorage

Sample = tuple[Mapping[str, str], float]

_VERBS: Final = ("get", "get_range", "head", "put", "delete", "list")


@dataclass(frozen=True, slots=True)
class Metric:
    """What is measured: a name without its prefix, and a value for each set of labels."""

    name: str
    kind: Literal["counter", "gauge"]
    meaning: str
    samples: Sequence[Sample]


def gauge(name: str, meaning: str, value: float) -> Metric:
    """Return a metric that may go up and down, with one value."""
    return Metric(name, "gauge", meaning, [({}, value)])


def counter(name: str, meaning: str, value: float) -> Metric:
    """Return a metric that only grows, with one value."""
    return Metric(name, "counter", meaning, [({}, value)])


def storage_metrics(storages: Sequence[RetryingStorage]) -> list[Metric]:
    """Return what the stores were asked for, each under its URL."""
    calls: list[Sample] = []
    moved: list[Sample] = []
    errors: list[Sample] = []
    retries: list[Sample] = []
    for storage in storages:
        stats, store = storage.stats, {"store": storage.url}
        calls += [({**store, "verb": verb}, getattr(stats, verb)) for verb in _VERBS]
        moved.append(({**store, "direction": "in"}, stats.bytes_in))
        moved.append(({**store, "direction": "out"}, stats.bytes_out))
        errors.append((store, stats.errors))
        retries.append((store, stats.retries))
    return [
        Metric("storage_calls_total", "counter", "Calls of a store, without retries.", calls),
        Metric("storage_bytes_total", "counter", "Content from and to a store.", moved),
        Metric("storage_errors_total", "counter", "Calls that failed after all retries.", errors),
        Metric("storage_retries_total", "counter", "Attempts after the first.", retries),
    ]


def exposition(metrics: Iterable[Metric]) -> bytes:
    """Return *metrics* as Prometheus reads them."""
    lines: list[str] = []
    for metric in metrics:
        lines.append(f"# HELP zfuse_{metric.name} {metric.meaning}")
        lines.append(f"# TYPE zfuse_{metric.name} {metric.kind}")
        for labels, value in metric.samples:
            # Not :g, which would round a counter after six digits.
            number = int(value) if value == int(value) else value
            lines.append(f"zfuse_{metric.name}{_braced(labels)} {number}")
    return ("\n".join(lines) + "\n").encode()


def _braced(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
