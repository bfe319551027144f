"""What INFO says, as metrics; and who is ready."""

from __future__ import annotations

import subprocess
import sys

import pytest

from node.information import Fields
from node.telemetry.catalogue import METRICS, PREFIX
from node.telemetry.exposition import render
from node.telemetry.readiness import find_obstacle
from node.telemetry.reference import write_reference
from node.telemetry.samples import Sample, read_databases, read_fields, read_identity
from node.telemetry.telemetry import Telemetry
from tests.inprocess import LocalServer
from tests.installation import ROOT
from tests.scraping import Series, parse
from tests.servers import environment


async def scrape(local: LocalServer) -> dict[Series, float]:
    """All series of a server, by name and labels."""

    async def pause() -> None:
        return None

    telemetry = next(c for c in local.engine.components if isinstance(c, Telemetry))
    return parse(b"".join(render(await telemetry.collect(pause))).decode())


async def test_a_node() -> None:
    words = "--latency-monitor-threshold 1 --databases 3 --enable-debug-command yes"
    with LocalServer(*words.split()) as local:
        client = local.connect()
        client("SET", "a", 1)
        client("SET", "b", 1, "EX", 100)
        client("GET", "c")
        client("INCR", "a", "b")
        client("LPUSH", "a", "b")
        client("DEBUG", "SLEEP", "0.02")
        found = await scrape(local)
    assert found["redis_up", ()] == 1
    assert found["redis_db_keys", (("db", "db0"),)] == 2
    assert found["redis_db_keys_expiring", (("db", "db0"),)] == 1
    assert found["redis_db_keys", (("db", "db2"),)] == 0
    assert ("redis_db_keys", (("db", "db3"),)) not in found
    assert found["redis_commands_total", (("cmd", "set"),)] == 2
    assert found["redis_commands_rejected_calls_total", (("cmd", "incr"),)] == 1
    assert found["redis_commands_failed_calls_total", (("cmd", "lpush"),)] == 1
    assert found["redis_errors_total", (("err", "WRONGTYPE"),)] == 1
    assert found["redis_keyspace_misses_total", ()] == 1
    assert found["redis_total_error_replies", ()] == 2
    assert found["redis_latency_percentiles_usec_count", (("cmd", "set"),)] == 2
    assert found["redis_slowlog_length", ()] == 1
    assert found["redis_last_slow_execution_duration_seconds", ()] == pytest.approx(0.02, abs=0.001)
    spikes = "redis_latency_spike_duration_seconds"
    assert found[spikes, (("event_name", "command"),)] == pytest.approx(0.02)
    assert found["redis_memory_used_bytes", ()] > 0
    assert found["redis_connected_slaves", ()] == 0
    assert found["redis_cluster_enabled", ()] == 0
    identity = next(dict(labels) for name, labels in found if name == "redis_instance_info")
    assert (identity["role"], identity["redis_mode"]) == ("master", "standalone")


def test_a_replica() -> None:
    fields: Fields = [
        ("role", "slave"),
        ("master_host", "10.0.0.1"),
        ("master_port", 6379),
        ("master_link_status", "down"),
        ("master_last_io_seconds_ago", 3),
        ("master_sync_in_progress", 0),
        ("slave_repl_offset", 17),
        ("slave_read_only", 1),
        ("slave_priority", 100),
        ("uptime_in_seconds", 10),
        ("slave0", "ip=10.0.0.2,port=7000,state=online,offset=12,lag=1"),
    ]
    samples = [*read_fields(fields), *read_identity(dict(fields), 1000.5)]
    master = {"master_host": "10.0.0.1", "master_port": "6379"}
    replica = {"slave_ip": "10.0.0.2", "slave_port": "7000", "slave_state": "online"}
    for expected in (
        Sample("slave_info", 1, {**master, "read_only": "1"}),
        Sample("master_link_up", 0, master),
        Sample("master_last_io_seconds_ago", 3, master),
        Sample("slave_repl_offset", 17, master),
        Sample("connected_slave_offset_bytes", 12, replica),
        Sample("connected_slave_lag_seconds", 1, replica),
        Sample("slave_priority", 100),
        Sample("start_time_seconds", 990),
    ):
        assert expected in samples


def test_a_sentinel() -> None:
    fields: Fields = [
        ("sentinel_masters", 1),
        ("sentinel_tilt", 0),
        ("master0", "name=shop,status=odown,address=10.0.0.1:6379,slaves=2,sentinels=3"),
    ]
    samples = list(read_fields(fields))
    labels = {"master_name": "shop", "master_address": "10.0.0.1:6379"}
    assert samples == [
        Sample("sentinel_masters", 1),
        Sample("sentinel_tilt", 0),
        Sample("sentinel_master_status", 0, {**labels, "master_status": "odown"}),
        Sample("sentinel_master_slaves", 2, labels),
        Sample("sentinel_master_sentinels", 3, labels),
    ]


def test_databases_far_up_are_told_of_while_they_have_keys() -> None:
    samples = read_databases([(0, 0, 0, 0), (99, 0, 0, 0), (98, 1, 0, 0)])
    assert {sample.labels["db"] for sample in samples} == {"db0", "db98"}


def test_samples_are_of_declared_metrics_with_declared_labels() -> None:
    fields: Fields = [
        ("role", "slave"),
        ("slave0", "ip=a,port=1,state=online,offset=1,lag=0"),
        ("master0", "name=m,status=ok,address=a:1,slaves=1,sentinels=1"),
        ("cmdstat_get", "calls=1,usec=1,usec_per_call=1.0,rejected_calls=0,failed_calls=0"),
        ("errorstat_ERR", "count=1"),
    ]
    samples = [*read_fields(fields), *read_identity(dict(fields), 0.0)]
    samples += read_databases([(0, 1, 1, 1)])
    for sample in samples:
        assert set(METRICS[sample.name].labels) == set(sample.labels), sample


@pytest.mark.parametrize(
    ("fields", "obstacle"),
    [
        ({"role": "master", "loading": 0, "async_loading": 0}, ""),
        ({"role": "master", "loading": 1}, "loading the data from disk"),
        ({"role": "slave", "async_loading": 1}, "loading the data of the master"),
        ({"role": "slave", "master_link_status": "up", "master_sync_in_progress": 0}, ""),
        (
            {"role": "slave", "master_link_status": "down", "master_host": "a", "master_port": 1},
            "the master a:1 is not connected",
        ),
        (
            {"role": "slave", "master_link_status": "down", "master_sync_in_progress": 1},
            "all data are coming from the master",
        ),
        ({"role": "master", "cluster_state": "ok"}, ""),
        ({"role": "master", "cluster_state": "fail"}, "cluster_state is fail"),
        ({"redis_mode": "sentinel", "sentinel_masters": 2}, ""),
        ({"redis_mode": "sentinel", "sentinel_masters": 0}, "no master is watched"),
    ],
)
def test_readiness(fields: dict[str, object], obstacle: str) -> None:
    assert find_obstacle(fields) == obstacle


def test_libraries_are_imported_only_where_there_is_a_port() -> None:
    program = (
        "import sys; from tests.inprocess import LocalServer; LocalServer();"
        "sys.exit(sum(name in sys.modules for name in ('h11', 'prometheus_client')))"
    )
    environ = environment()
    environ["PYTHONPATH"] = str(ROOT)
    subprocess.run([sys.executable, "-c", program], env=environ, cwd=ROOT, check=True)


def test_reference_is_fresh() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert page == write_reference(), "run python -m node.telemetry.reference"
    for name in METRICS:
        assert f"`{PREFIX}{name}`" in page
