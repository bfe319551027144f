"""Metrics and health of real nodes, and redis_exporter, whose names they have."""

from __future__ import annotations

import pytest

from node.telemetry.catalogue import METRICS, PREFIX
from tests.conftest import StartServer
from tests.formations import OURS, Cluster
from tests.replicas import wait_for_link, wait_until
from tests.scraping import Series, ask, find, run_exporter, scrape
from tests.sentinels import Sentinel
from tests.servers import Server, free_port, node_command, sentinel_command
from tests.wire import Error

# What is about the exporter itself, or about what there is not here.
FOREIGN = (
    *("redis_exporter_", "redis_target_", "redis_last_key_groups_", "redis_config_io_threads"),
    *("redis_key_", "redis_connected_clients_details"),
)


def foreign(name: str) -> bool:
    """Whether it is none of ours to tell."""
    return name.startswith(FOREIGN)


def base(name: str) -> str:
    """The metric that a series of a summary belongs to."""
    return name.removeprefix(PREFIX).removesuffix("_sum").removesuffix("_count")


def test_off_unless_wanted(node: Server) -> None:
    with node.connect() as client:
        assert client("CONFIG", "GET", "metrics-*") == [
            *(b"metrics-port", b"0", b"metrics-bind", b"127.0.0.1 -::1")
        ]


def test_the_port_moves(start_node: StartServer) -> None:
    first, second = free_port(), free_port()
    node = start_node("--metrics-port", str(first))
    assert ask(first, "/readyz") == (200, "ok\n")
    with node.connect() as client:
        client("CONFIG", "SET", "metrics-port", second)
        assert ask(second, "/healthz") == (200, "ok\n")
        with pytest.raises(OSError, match="refused"):
            ask(first, "/healthz")
        # One that is taken is refused, and all stays as it was.
        reply = client("CONFIG", "SET", "metrics-port", node.port)
        assert isinstance(reply, Error)
        assert b"Unable to listen for metrics" in reply.text
        assert ask(second, "/healthz") == (200, "ok\n")
        client("CONFIG", "SET", "metrics-port", 0)
        with pytest.raises(OSError, match="refused"):
            ask(second, "/healthz")


def test_a_taken_port_stops_the_start(node: Server) -> None:
    other = Server(node_command(), "--metrics-port", str(node.port), name="unlucky")
    try:
        other.launch()
        assert other.await_end() == 1
        assert f"METRICS listening socket 127.0.0.1:{node.port}" in other.log
    finally:
        other.stop()


def test_ready_when_loaded(start_node: StartServer) -> None:
    port = free_port()
    node = start_node("--metrics-port", str(port), "--save", "3600 1")
    with node.connect() as client:
        for number in range(300):
            client("SET", f"key:{number}", number)
    node.directives += ["--key-load-delay", "3000"]
    with node.connect() as client:
        client.send("SHUTDOWN", "SAVE")
    node.await_end()
    node.launch()
    seen: list[tuple[int, str]] = []

    def is_ready() -> bool:
        try:
            seen.append(ask(port, "/readyz"))
        except OSError:
            return False
        if seen[-1][0] != 200:
            assert ask(port, "/healthz") == (200, "ok\n")
            assert find(scrape(port), "redis_loading_dump_file") in (0, 1)
        return seen[-1][0] == 200

    wait_until(is_ready, "readiness")
    assert (503, "not ready: loading the data from disk\n") in seen


def test_a_replica_is_ready_while_its_master_is_there(start_node: StartServer) -> None:
    ports = free_port(), free_port()
    master = start_node("--metrics-port", str(ports[0]), "--repl-diskless-sync-delay", "0")
    replica = start_node("--metrics-port", str(ports[1]))
    with replica.connect() as client:
        client("REPLICAOF", "127.0.0.1", master.port)
        wait_for_link(client)
    assert ask(ports[1], "/readyz") == (200, "ok\n")
    wait_until(
        lambda: find(scrape(ports[0]), "redis_connected_slaves") == 1, "a replica that is counted"
    )
    address = {"slave_ip": "127.0.0.1", "slave_port": str(replica.port)}
    wait_until(
        lambda: (
            ("redis_connected_slave_lag_seconds", (*address.items(), ("slave_state", "online")))
            in scrape(ports[0])
        ),
        "a replica that is online",
    )
    found = scrape(ports[1])
    assert find(found, "redis_master_link_up", master_port=str(master.port)) == 1
    assert find(found, "redis_instance_info", role="slave") == 1
    master.stop()
    wait_until(lambda: ask(ports[1], "/readyz")[0] == 503, "a replica that is not ready")
    assert ask(ports[1], "/readyz")[1] == (
        f"not ready: the master 127.0.0.1:{master.port} is not connected\n"
    )
    assert ask(ports[1], "/healthz") == (200, "ok\n")


def test_a_node_in_a_cluster_is_ready_while_that_is_up() -> None:
    port = free_port()
    with Cluster([OURS] * 3, directives=["--cluster-require-full-coverage", "yes"]) as cluster:
        cluster[0].do("CONFIG", "SET", "metrics-port", port)
        assert ask(port, "/readyz") == (503, "not ready: cluster_state is fail\n")
        cluster.form(3)
        assert ask(port, "/readyz") == (200, "ok\n")
        found = scrape(port)
        assert find(found, "redis_cluster_state") == 1
        assert find(found, "redis_cluster_known_nodes") == 3
        assert find(found, "redis_cluster_slots_assigned") == 16384
        compare_with_exporter(cluster[0], port)


def test_exporter(start_node: StartServer) -> None:
    """redis_exporter works with our node, and says what the node itself says."""
    ports = free_port(), free_port()
    master = start_node("--metrics-port", str(ports[0]), "--repl-diskless-sync-delay", "0")
    replica = start_node("--metrics-port", str(ports[1]), "--appendonly", "yes")
    with master.connect() as client, replica.connect() as other:
        other("REPLICAOF", "127.0.0.1", master.port)
        wait_for_link(other)
        client("SET", "a", 1)
        client("SET", "b", 1, "EX", 1000)
        client("SELECT", 1)
        client("RPUSH", "list", *range(10))
        client("LPUSH", "a")
        theirs = compare_with_exporter(master, ports[0])
        assert find(theirs, "redis_db_keys", db="db0") == 2
        assert find(theirs, "redis_db_keys_expiring", db="db0") == 1
        assert find(theirs, "redis_key_size", db="db1", key="list") == 10
        assert find(theirs, "redis_connected_slaves") == 1
        assert find(theirs, "redis_errors_total", err="ERR") == 1
        theirs = compare_with_exporter(replica, ports[1])
        assert find(theirs, "redis_master_link_up") == 1
        assert find(theirs, "redis_aof_enabled") == 1


def test_exporter_of_a_sentinel(node: Server) -> None:
    port = free_port()
    statements = (f"monitor shop 127.0.0.1 {node.port} 1",)
    with Sentinel(sentinel_command(), statements, "--metrics-port", str(port)) as sentinel:
        wait_until(
            lambda: find(scrape(port), "redis_sentinel_master_status", master_name="shop") == 1,
            "a master that is well",
        )
        with run_exporter(sentinel.port) as exporter:
            theirs = scrape(exporter)
            ours = scrape(port)
        assert find(theirs, "redis_up") == 1
        assert find(theirs, "redis_exporter_last_scrape_error") == 0
        names = {name for name, _ in theirs if name.startswith("redis_sentinel_")}
        assert "redis_sentinel_master_ckquorum_status" in names
        for name in names:
            assert find(theirs, name) == find(ours, name)
        assert {name for name, _ in theirs if not foreign(name)} <= {name for name, _ in ours}


def compare_with_exporter(server: Server, port: int) -> dict[Series, float]:
    """Every series of the exporter must be one of ours; what the exporter says."""
    with run_exporter(
        server.port, "-check-single-keys", "db1=list", "-export-client-list"
    ) as exporter:
        theirs = scrape(exporter)
        ours = scrape(port)
    assert find(theirs, "redis_up") == 1
    assert find(theirs, "redis_exporter_last_scrape_error") == 0
    assert find(theirs, "redis_db_keys", db="db0") == find(ours, "redis_db_keys", db="db0")
    assert find(theirs, "redis_memory_used_bytes") > 0
    assert find(theirs, "redis_master_repl_offset") >= 0
    known = {(name, frozenset(dict(labels))) for name, labels in ours}
    for name, labels in theirs:
        if foreign(name):
            continue
        assert base(name) in METRICS, name
        if name == "redis_instance_info":
            assert set(dict(labels)) <= set(METRICS["instance_info"].labels)
        else:
            assert (name, frozenset(dict(labels))) in known, (name, labels)
    return theirs
