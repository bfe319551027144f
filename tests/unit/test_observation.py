"""What the server tells of itself: SLOWLOG, LATENCY, INFO, MEMORY; in time that the tests move."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from node.information import Section, render
from tests.inprocess import LocalServer
from tests.wire import OK, Double, Error, Map, Reply, Verbatim

Make = Callable[..., LocalServer]


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes nodes; they are closed at the end."""
    nodes: list[LocalServer] = []

    def start(*options: str) -> LocalServer:
        nodes.append(LocalServer("--enable-debug-command", "yes", *options))
        return nodes[-1]

    yield start
    for node in nodes:
        node.close()


# --- SLOWLOG -------------------------------------------------------------------------------------


def entries(node: LocalServer, *count: int) -> list[list[Reply]]:
    """SLOWLOG GET."""
    reply = node.connect()("SLOWLOG", "GET", *count)
    assert isinstance(reply, list)
    return [entry for entry in reply if isinstance(entry, list)]


def test_slowlog_keeps_what_is_slow(make: Make) -> None:
    node = make("--slowlog-log-slower-than", "100000")
    client = node.connect()
    client("CLIENT", "SETNAME", "me")
    client.session.address = b"1.2.3.4:5"
    client("DEBUG", "SLEEP", "0.09")
    client("DEBUG", "SLEEP", "0.1")
    client("debug", "sleep", "2")
    seconds = int(node.clock.wall())
    assert entries(node) == [
        [1, seconds, 2_000_000, [b"debug", b"sleep", b"2"], b"1.2.3.4:5", b"me"],
        [0, seconds - 2, 100_000, [b"DEBUG", b"SLEEP", b"0.1"], b"1.2.3.4:5", b"me"],
    ]
    assert client("SLOWLOG", "LEN") == 2
    assert client("SLOWLOG", "RESET") == OK
    assert entries(node) == []
    client("DEBUG", "SLEEP", "1")
    assert entries(node)[0][0] == 2


def test_slowlog_of_everything_and_of_nothing(make: Make) -> None:
    node = make("--slowlog-log-slower-than", "0", "--slowlog-max-len", "3")
    client = node.connect()
    for number in range(5):
        client("SET", "key", number)
    assert [entry[3] for entry in entries(node, -1)] == [
        [b"SET", b"key", b"%d" % number] for number in (4, 3, 2)
    ]
    assert len(entries(node, 1)) == 1
    client("CONFIG", "SET", "slowlog-max-len", "1")
    assert client("SLOWLOG", "LEN") == 1
    client("SLOWLOG", "RESET")
    client("CONFIG", "SET", "slowlog-log-slower-than", "-1")
    client("DEBUG", "SLEEP", "100")
    assert [entry[3] for entry in entries(node)] == [[b"SLOWLOG", b"RESET"]]


def test_slowlog_shortens_requests(make: Make) -> None:
    node = make("--slowlog-log-slower-than", "0")
    client = node.connect()
    client("SET", "key", "x" * 128)
    client("SET", "key", "x" * 129)
    client("DEL", *range(31))
    client("DEL", *range(32))
    many, just, long, short = [entry[3] for entry in entries(node)]
    assert short == [b"SET", b"key", b"x" * 128]
    assert long == [b"SET", b"key", b"x" * 128 + b"... (1 more bytes)"]
    assert just == [b"DEL", *(b"%d" % number for number in range(31))]
    assert many == [
        *(b"DEL", *(b"%d" % number for number in range(30))),
        b"... (2 more arguments)",
    ]


def test_slowlog_leaves_out_what_it_must_not_show(make: Make) -> None:
    node = make("--slowlog-log-slower-than", "0", "--requirepass", "secret")
    client = node.connect()
    client("AUTH", "secret")
    client("CONFIG", "SET", "requirepass", "other")
    client("MULTI")
    client("EXEC")
    shown = [entry[3] for entry in node_entries(client)]
    assert b"secret" not in repr(shown).encode()
    assert [b"EXEC"] not in shown
    assert [b"CONFIG", b"SET", b"requirepass", b"(redacted)"] in shown


def node_entries(client: Callable[..., Reply]) -> list[list[Reply]]:
    """SLOWLOG GET of a client that is let in."""
    reply = client("SLOWLOG", "GET", -1)
    assert isinstance(reply, list)
    return [entry for entry in reply if isinstance(entry, list)]


# --- LATENCY -------------------------------------------------------------------------------------


def test_latency_monitor(make: Make) -> None:
    node = make("--latency-monitor-threshold", "100")
    client = node.connect()
    client("DEBUG", "SLEEP", "0.05")
    assert client("LATENCY", "LATEST") == []
    start = int(node.clock.wall())
    client("DEBUG", "SLEEP", "0.2")
    client("DEBUG", "SLEEP", "0.3")
    node.advance(5)
    client("DEBUG", "SLEEP", "0.12")
    end = int(node.clock.wall())
    assert client("LATENCY", "LATEST") == [[b"command", end, 120, 300]]
    assert client("LATENCY", "HISTORY", "command") == [[start, 300], [end, 120]]
    assert client("LATENCY", "HISTORY", "fork") == []
    assert client("LATENCY", "GRAPH", "fork") == Error(b"ERR No samples available for event 'fork'")
    graph = client("LATENCY", "GRAPH", "command")
    assert isinstance(graph, bytes)
    assert graph.startswith(b"command - high 300 ms, low 120 ms (all time high 300 ms)\n-----")
    doctor = node.connect(3)("LATENCY", "DOCTOR")
    assert isinstance(doctor, Verbatim)
    assert b"command: 2 spikes, 210 ms on average" in doctor.text
    assert client("LATENCY", "RESET", "fork", "command") == 1
    assert client("LATENCY", "LATEST") == []


def test_latency_keeps_160_samples(make: Make) -> None:
    node = make("--latency-monitor-threshold", "1")
    client = node.connect()
    for _ in range(170):
        client("DEBUG", "SLEEP", "1")
    history = client("LATENCY", "HISTORY", "command")
    assert isinstance(history, list)
    assert len(history) == 160
    assert history[-1] == [int(node.clock.wall()), 1000]


def test_latency_monitor_is_off_at_first(make: Make) -> None:
    node = make()
    client = node.connect()
    client("DEBUG", "SLEEP", "10")
    assert client("LATENCY", "LATEST") == []
    assert client("LATENCY", "RESET") == 0
    doctor = client("LATENCY", "DOCTOR")
    assert isinstance(doctor, bytes)
    assert b"latency-monitor-threshold" in doctor


def test_eviction_that_takes_long_is_an_event(make: Make) -> None:
    node = make("--latency-monitor-threshold", "10")
    node.engine.report_stall(b"eviction-cycle", 9_999_999)
    node.engine.report_stall(b"eviction-cycle", 25_000_000)
    assert node.connect()("LATENCY", "LATEST") == [
        [b"eviction-cycle", int(node.clock.wall()), 25, 25]
    ]


def test_histograms(make: Make) -> None:
    node = make()
    client = node.connect(3)
    client("DEBUG", "SLEEP", "0.001")
    client("DEBUG", "SLEEP", "0.1")
    client("CONFIG", "GET", "hz")
    slow = Map(
        [(b"calls", 2), (b"histogram_usec", Map([(1056, 1), (135266, 2)]))],
    )
    assert client("LATENCY", "HISTOGRAM", "debug", "nosuch", "get") == Map([(b"debug", slow)])
    quick = Map([(b"calls", 1), (b"histogram_usec", Map([(1, 1)]))])
    assert client("LATENCY", "HISTOGRAM", "config") == Map([(b"config|get", quick)])
    everything = client("LATENCY", "HISTOGRAM")
    assert isinstance(everything, Map)
    assert (b"debug", slow) in everything.pairs
    client("CONFIG", "SET", "latency-tracking", "no")
    assert client("LATENCY", "HISTOGRAM") == Map([])
    client("CONFIG", "SET", "latency-tracking", "yes")
    client("CONFIG", "RESETSTAT")
    assert client("LATENCY", "HISTOGRAM", "debug") == Map([])


# --- INFO ----------------------------------------------------------------------------------------


def test_sections_are_chosen_and_ordered() -> None:
    sections = [
        Section("Other", lambda: [("late", 1)]),
        Section("Keyspace", lambda: [("db0", "x")]),
        Section("Commandstats", lambda: [("cmdstat_get", 1)], default=False),
        Section("Server", lambda: [("ratio", 0.5)]),
        Section("Server", lambda: [("more", 2)]),
    ]
    keyspace = b"# Keyspace\r\ndb0:x\r\n"
    server = b"# Server\r\nratio:0.50\r\nmore:2\r\n"
    statistics = b"# Commandstats\r\ncmdstat_get:1\r\n"
    other = b"# Other\r\nlate:1\r\n"
    assert render(sections, []) == b"\r\n".join([server, keyspace, other])
    assert render(sections, ["default"]) == render(sections, [])
    assert render(sections, ["all"]) == b"\r\n".join([server, statistics, keyspace, other])
    assert render(sections, ["everything"]) == render(sections, ["all"])
    assert render(sections, ["keyspace", "server"]) == b"\r\n".join([server, keyspace])
    assert render(sections, ["commandstats"]) == statistics
    assert render(sections, ["nosuch"]) == b""


def test_no_field_comes_twice(make: Make) -> None:
    text = make().connect()("INFO", "everything")
    assert isinstance(text, bytes)
    names = [line.split(b":")[0] for line in text.splitlines() if b":" in line]
    assert sorted(names) == sorted(set(names))


def test_info_counts_commands_and_errors(make: Make) -> None:
    node = make()
    client = node.connect()
    client("SET", "key", "value")
    client("INCR", "key")
    client("LPUSH", "key", "x")
    client("GET")
    client("NOSUCH")
    client("CONFIG", "GET", "hz")
    fields = node.info("commandstats", "errorstats", "stats", "latencystats")
    assert fields["cmdstat_set"].startswith("calls=1,usec=0,usec_per_call=0.00,rejected_calls=0,")
    assert fields["cmdstat_incr"].endswith("rejected_calls=0,failed_calls=1")
    assert fields["cmdstat_get"] == (
        "calls=0,usec=0,usec_per_call=0.00,rejected_calls=1,failed_calls=0"
    )
    assert "cmdstat_config|get" in fields
    assert fields["errorstat_ERR"] == "count=3"
    assert fields["errorstat_WRONGTYPE"] == "count=1"
    assert fields["total_error_replies"] == "4"
    assert fields["total_commands_processed"] == "4"
    assert fields["latency_percentiles_usec_set"] == "p50=0.000,p99=0.000,p99.9=0.000"


def test_percentiles_are_those_that_are_asked_for(make: Make) -> None:
    node = make("--latency-tracking-info-percentiles", "25", "99.99")
    client = node.connect()
    client("DEBUG", "SLEEP", "0.25")
    fields = node.info("latencystats")
    assert fields["latency_percentiles_usec_debug"] == "p25=250000.000,p99.99=250000.000"
    client("CONFIG", "SET", "latency-tracking", "no")
    assert node.info("latencystats") == {}


def test_info_keyspace_and_time(make: Make) -> None:
    node = make()
    client = node.connect()
    client("MSET", "a", "1", "b", "2")
    client("EXPIRE", "a", "100")
    client("SELECT", "3")
    client("SET", "c", "3")
    fields = node.info("keyspace", "server")
    assert fields["db0"] == "keys=2,expires=1,avg_ttl=0"
    assert fields["db3"] == "keys=1,expires=0,avg_ttl=0"
    assert "db1" not in fields
    assert fields["uptime_in_seconds"] == "0"
    node.advance(200_000)
    fields = node.info("server")
    assert fields["uptime_in_seconds"] == "200000"
    assert fields["uptime_in_days"] == "2"
    assert fields["server_time_usec"] == str(round(node.clock.wall() * 1e6))


def test_rates_are_sampled(make: Make) -> None:
    node = make()
    client = node.connect()
    node.advance(0.1)
    for _ in range(20):
        for _ in range(10):
            client("PING")
        node.advance(0.1)
    assert 95 <= int(node.info("stats")["instantaneous_ops_per_sec"]) <= 101
    client("CONFIG", "RESETSTAT")
    assert node.info("stats")["instantaneous_ops_per_sec"] == "0"


def test_reset_statistics(make: Make) -> None:
    node = make()
    client = node.connect()
    client("SET", "key", "value", "PX", "5")
    client("GET", "key")
    client("GET", "missing")
    client("NOSUCH")
    node.advance(1)
    client("GET", "key")
    fields = node.info("stats")
    assert (fields["keyspace_hits"], fields["keyspace_misses"]) == ("1", "2")
    assert fields["expired_keys"] == "1"
    client("CONFIG", "RESETSTAT")
    fields = node.info("stats", "commandstats", "errorstats")
    for name in ("keyspace_hits", "keyspace_misses", "expired_keys", "total_error_replies"):
        assert fields[name] == "0", name
    assert [name for name in fields if name.startswith(("cmdstat", "errorstat"))] == [
        "cmdstat_config|resetstat"
    ]


def test_refused_passwords_are_counted(make: Make) -> None:
    node = make("--requirepass", "secret")
    client = node.connect()
    client("AUTH", "wrong")
    client("AUTH", "nobody", "secret")
    client("HELLO", "3", "AUTH", "default", "wrong")
    client("AUTH", "secret")
    text = client("INFO", "stats")
    assert isinstance(text, bytes)
    assert b"acl_access_denied_auth:3\r\n" in text


# --- MEMORY --------------------------------------------------------------------------------------


def test_memory_usage_grows_with_the_value(make: Make) -> None:
    client = make().connect()
    client("SET", "key", "x")
    small = client("MEMORY", "USAGE", "key")
    client("APPEND", "key", "x" * 10_000)
    large = client("MEMORY", "USAGE", "key", "SAMPLES", "0")
    assert isinstance(small, int)
    assert isinstance(large, int)
    assert 0 < small < 300
    assert 10_000 < large - small < 14_000
    client("EXPIRE", "key", "100")
    assert client("MEMORY", "USAGE", "key") > large  # type: ignore[operator]


def test_memory_is_accounted_in_info_and_stats(make: Make) -> None:
    node = make()
    client = node.connect(3)
    before = int(node.info("memory")["used_memory"])
    client("SET", "key", "x" * 1_000_000)
    fields = node.info("memory")
    used = int(fields["used_memory"])
    assert 1_000_000 <= used - before <= 1_100_000
    assert int(fields["used_memory_peak"]) == used
    assert int(fields["used_memory_dataset"]) + int(fields["used_memory_overhead"]) == used
    client("DEL", "key")
    fields = node.info("memory")
    assert int(fields["used_memory_peak"]) >= used > int(fields["used_memory"])
    client("SET", "key", "value")
    stats = client("MEMORY", "STATS")
    assert isinstance(stats, Map)
    figures = {key: value for key, value in stats.pairs if isinstance(key, bytes)}
    assert figures[b"keys.count"] == 1
    assert isinstance(figures[b"db.0"], Map)
    assert isinstance(figures[b"peak.percentage"], Double)


def test_memory_doctor_looks_at_the_peak(make: Make) -> None:
    node = make()
    client = node.connect()
    assert b"too little data" in bytes(client("MEMORY", "DOCTOR"))  # type: ignore[arg-type]
    client("SET", "a", "x" * 6_000_000)
    client("SET", "b", "x" * 6_000_000)
    assert b"peak" not in bytes(client("MEMORY", "DOCTOR"))  # type: ignore[arg-type]
    client("DEL", "b")
    assert b"at its peak" in bytes(client("MEMORY", "DOCTOR"))  # type: ignore[arg-type]
    assert client("MEMORY", "PURGE") == OK
    assert b"resident memory" in bytes(client("MEMORY", "MALLOC-STATS"))  # type: ignore[arg-type]
