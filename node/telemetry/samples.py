"""What INFO says, as samples of metrics; see :mod:`node.telemetry.catalogue` for their names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from node.information import Fields
from node.telemetry.catalogue import BY_FIELD, METRICS

# Words that stand for numbers: statuses, cluster_state, links.
WORDS: Final = {"ok": 1.0, "err": 0.0, "fail": 0.0, "up": 1.0, "down": 0.0}
# Databases that are told of though they are empty, so that their series do not come and go.
MOST_EMPTY: Final = 16


class Sample(NamedTuple):
    """One value of a metric.

    ``name`` is without the prefix; ``suffix`` is what a summary's samples add to it.
    """

    name: str
    value: float
    labels: Mapping[str, str] = {}
    suffix: str = ""


def read_fields(fields: Fields) -> Iterator[Sample]:
    """The samples of those fields that are values by themselves, and of those that are lists.

    What is known by no metric is left out.
    """
    for field, value in fields:
        metrics = BY_FIELD.get(field)
        if metrics is not None:
            number = _number(value)
            if number is not None:
                for metric in metrics:
                    yield Sample(metric.name, number)
        elif field.startswith("cmdstat_"):
            yield from _read_command(field[len("cmdstat_") :], _pairs(str(value)))
        elif field.startswith("errorstat_"):
            count = float(_pairs(str(value))["count"])
            yield Sample("errors_total", count, {"err": field[len("errorstat_") :]})
        elif field.startswith("latency_percentiles_usec_"):
            command = field[len("latency_percentiles_usec_") :]
            for word, share in _pairs(str(value)).items():
                labels = {"cmd": command, "quantile": word.removeprefix("p")}
                yield Sample("latency_percentiles_usec", float(share), labels)
        elif field.startswith("slave") and field[len("slave") :].isdigit():
            yield from _read_replica(_pairs(str(value)))
        elif field.startswith("master") and field[len("master") :].isdigit():
            yield from _read_watched(_pairs(str(value)))


def read_identity(info: Mapping[str, object], now: float) -> Iterator[Sample]:
    """What takes several fields: who the process is, whose replica, since when.

    ``now`` is in Unix seconds.
    """
    yield Sample("up", 1.0)
    labels = METRICS["instance_info"].labels
    yield Sample("instance_info", 1.0, {name: str(info.get(name, "")) for name in labels})
    uptime = _number(info.get("uptime_in_seconds", 0)) or 0.0
    yield Sample("start_time_seconds", float(int(now - uptime)))
    fork = _number(info.get("latest_fork_usec", 0)) or 0.0
    yield Sample("latest_fork_seconds", fork / 1e6)
    if info.get("role") != "slave":
        return
    master = {name: str(info.get(name, "")) for name in ("master_host", "master_port")}
    yield Sample("slave_info", 1.0, {**master, "read_only": str(info.get("slave_read_only", ""))})
    for name, field in (
        ("master_link_up", "master_link_status"),
        ("master_last_io_seconds_ago", "master_last_io_seconds_ago"),
        ("master_sync_in_progress", "master_sync_in_progress"),
        ("slave_repl_offset", "slave_repl_offset"),
    ):
        number = _number(info.get(field))
        if number is not None:
            yield Sample(name, number, master)


def read_databases(counts: Sequence[tuple[int, int, int, int]]) -> Iterator[Sample]:
    """Of (number, keys, keys that expire, their mean time to live in ms) of each database."""
    for number, keys, volatile, ttl in counts:
        if not keys and number >= MOST_EMPTY:
            continue
        labels = {"db": f"db{number}"}
        yield Sample("db_keys", keys, labels)
        yield Sample("db_keys_expiring", volatile, labels)
        yield Sample("db_avg_ttl_seconds", ttl / 1000, labels)


def _read_command(name: str, figures: Mapping[str, str]) -> Iterator[Sample]:
    labels = {"cmd": name}
    calls, microseconds = float(figures["calls"]), float(figures["usec"])
    yield Sample("commands_total", calls, labels)
    yield Sample("commands_duration_seconds_total", microseconds / 1e6, labels)
    yield Sample("commands_rejected_calls_total", float(figures["rejected_calls"]), labels)
    yield Sample("commands_failed_calls_total", float(figures["failed_calls"]), labels)
    if calls:
        yield Sample("latency_percentiles_usec", microseconds, labels, "_sum")
        yield Sample("latency_percentiles_usec", calls, labels, "_count")


def _read_replica(about: Mapping[str, str]) -> Iterator[Sample]:
    labels = {f"slave_{name}": about.get(name, "") for name in ("ip", "port", "state")}
    yield Sample("connected_slave_offset_bytes", float(about["offset"]), labels)
    yield Sample("connected_slave_lag_seconds", float(about["lag"]), labels)


def _read_watched(about: Mapping[str, str]) -> Iterator[Sample]:
    labels = {"master_name": about["name"], "master_address": about["address"]}
    status = about["status"]
    yield Sample(
        "sentinel_master_status", float(status == "ok"), {**labels, "master_status": status}
    )
    yield Sample("sentinel_master_slaves", float(about["slaves"]), labels)
    yield Sample("sentinel_master_sentinels", float(about["sentinels"]), labels)


def _pairs(text: str) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in text.split(",") if "=" in pair)


def _number(value: object) -> float | None:
    if isinstance(value, int | float):
        return float(value)
    text = str(value)
    if text in WORDS:
        return WORDS[text]
    try:
        return float(text)
    except ValueError:
        return None
