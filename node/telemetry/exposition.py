"""Samples as the text that Prometheus reads, made by prometheus_client."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from prometheus_client import generate_latest
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from node.telemetry.catalogue import COUNTER, METRICS, PREFIX, Metric
from node.telemetry.samples import Sample

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
TOTAL: Final = "_total"


class _Single(Collector):
    """A registry of one family."""

    def __init__(self, family: Family) -> None:
        self._family = family

    def collect(self) -> Iterable[Family]:
        return (self._family,)


def render(samples: Iterable[Sample]) -> Iterator[bytes]:
    """The text, in portions of one metric each; metrics that have no sample are left out."""
    found: dict[str, list[Sample]] = {}
    for sample in samples:
        found.setdefault(sample.name, []).append(sample)
    for name, metric in METRICS.items():
        if name in found:
            yield generate_latest(_Single(_make_family(metric, found[name])))


def _make_family(metric: Metric, samples: Iterable[Sample]) -> Family:
    name = PREFIX + metric.name
    kind = metric.kind
    title = name
    if kind == COUNTER:
        # prometheus_client names each counter with that suffix; redis_exporter does not.
        if name.endswith(TOTAL):
            title = name.removesuffix(TOTAL)
        else:
            kind = "unknown"
    family = Family(title, metric.help, kind)
    for sample in samples:
        family.add_sample(name + sample.suffix, dict(sample.labels), sample.value)
    return family
