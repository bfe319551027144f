"""Dashboard, alerts and scrape targets speak of what is exported and of what there is."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from node.telemetry.catalogue import METRICS, PREFIX, SUMMARY
from tests.containers import read_compose
from tests.installation import ROOT

NAME = re.compile(r"\bredis_\w+")
SELECTOR = re.compile(r"\b(redis_\w+)\{([^}]*)\}")
# Those that Prometheus itself adds.
TARGET_LABELS = {"instance", "job"}


def dashboard() -> dict[str, Any]:
    document: dict[str, Any] = json.loads((ROOT / "deploy/grafana/sentrio.json").read_text())
    return document


def expressions() -> list[str]:
    """All queries of dashboard and alerts."""
    found = [
        target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", [])
    ]
    alerts = yaml.safe_load((ROOT / "deploy/alerts.yml").read_text())
    found += [rule["expr"] for group in alerts["groups"] for rule in group["rules"]]
    return found


def test_metrics_are_exported() -> None:
    names = {name for text in expressions() for name in NAME.findall(text)}
    assert len(names) > 30
    for name in names:
        assert name.removeprefix(PREFIX) in METRICS, name


def test_labels_are_those_of_the_metrics() -> None:
    for text in expressions():
        for name, selector in SELECTOR.findall(text):
            metric = METRICS[name.removeprefix(PREFIX)]
            known = {*metric.labels, *TARGET_LABELS}
            if metric.kind == SUMMARY:
                known.add("quantile")
            assert set(re.findall(r"(\w+)\s*[=!]", selector)) <= known, text


def test_panels_are_placed_without_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    ids = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
        ids.add(panel["id"])
    assert len(ids) == len(dashboard()["panels"])


def test_targets_are_the_servers_of_the_compose_files() -> None:
    services = read_compose(["docker-compose.yml", "deploy/compose-bigger.yml"])["services"]
    config = yaml.safe_load((ROOT / "deploy/prometheus.yml").read_text())
    targets = {
        name
        for job in config["scrape_configs"]
        for found in job["dns_sd_configs"]
        for name in found["names"]
    }
    assert targets == {name for name in services if name.startswith(("node-", "sentinel-"))}


def test_prometheus_accepts_it() -> None:
    if shutil.which("promtool") is None:
        pytest.skip("needs promtool (Debian: apt-get install prometheus)")
    for words in (["config", "deploy/prometheus.yml"], ["rules", "deploy/alerts.yml"]):
        subprocess.run(["promtool", "check", *words], cwd=ROOT, check=True)
