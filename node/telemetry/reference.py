"""Writes `docs/metrics.md` from the catalogue: `python -m node.telemetry.reference`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from node.telemetry.catalogue import PREFIX, SECTIONS, Metric

TARGET: Final = Path(__file__).parents[2] / "docs" / "metrics.md"

_INTRODUCTION: Final = """\
# Metrics and health

<!-- Written by `python -m node.telemetry.reference` from node/telemetry/catalogue.py. -->

With `metrics-port` a node or a sentinel answers HTTP on that port of the addresses of
`metrics-bind` (loopback, unless told otherwise). Nobody is asked for a password there: let only the
network in that your Prometheus and your probes come from.

| path | answer |
| --- | --- |
| `/metrics` | what is listed below, in Prometheus's text format |
| `/healthz` | 200 while the process does its work; while it hangs there is no answer |
| `/readyz` | 200 while clients should be sent here; otherwise 503, with the reason as text |

Ready is a server that has loaded its data; a replica whose master is connected and whose data are
whole; a node that takes its cluster to be up; a sentinel that watches at least one master.

Scrapes are made in portions of half a millisecond, between which clients are served; a connection
may take ten seconds for a request, and there are at most 32.

Names, kinds and labels are those of
[redis_exporter](https://github.com/oliver006/redis_exporter), so that dashboards and alerts made
for it work. The exporter itself works with Sentrio's nodes and sentinels, too.
[deploy/prometheus.yml](../deploy/prometheus.yml) scrapes the cluster of
[docker-compose.yml](../docker-compose.yml), and
[deploy/grafana/sentrio.json](../deploy/grafana/sentrio.json) shows it.

"""


def _row(metric: Metric) -> str:
    labels = ", ".join(metric.labels)
    return f"| `{PREFIX}{metric.name}` | {metric.kind} | {labels} | {metric.help} |\n"


def _table(title: str, section: list[Metric]) -> str:
    head = "| metric | kind | labels | meaning |\n| --- | --- | --- | --- |\n"
    return f"## {title}\n\n{head}{''.join(map(_row, section))}\n"


def write_reference() -> str:
    """The whole page."""
    parts = [_INTRODUCTION, *(_table(title, section) for title, section in SECTIONS)]
    return "".join(parts).rstrip("\n") + "\n"


def main() -> None:
    """Write the page to its place."""
    TARGET.write_text(write_reference(), encoding="utf-8")
    sys.stdout.write(f"{TARGET}\n")


if __name__ == "__main__":
    main()
