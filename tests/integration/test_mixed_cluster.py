"""Nodes of ours and real ones in one cluster: what they tell each other, and what follows."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from itertools import pairwise

import pytest

from tests.conftest import require_oracle
from tests.formations import LIMIT, OURS, REAL, SLOTS, Cluster, ClusterNode, connected
from tests.wire import OK, PONG, Error, Reply, render


@pytest.fixture(scope="module")
def mixed() -> Iterator[Cluster]:
    """Masters: ours, real, ours. Replicas: one of ours of the real one, a real one of the first."""
    with Cluster([OURS, REAL, OURS, OURS, REAL], require_oracle()) as cluster:
        yield cluster.form(3, {3: 1, 4: 0})


def free_slot(node: ClusterNode) -> int:
    """A slot of a node without keys."""
    for word in node.myself().slots:
        first, _, last = word.partition("-")
        for slot in range(int(first), int(last or first) + 1):
            if node.do("CLUSTER", "COUNTKEYSINSLOT", slot) == 0:
                return slot
    raise LookupError


def key_in(slot: int, node: ClusterNode) -> str:
    """A key of that slot."""
    with node.connect() as client:
        requests = [[b"CLUSTER", b"KEYSLOT", b"k%d" % i] for i in range(200000)]
        for start in range(0, len(requests), 5000):
            replies = client.pipeline(requests[start : start + 5000])
            if slot in replies:
                return f"k{start + replies.index(slot)}"
    raise LookupError(slot)


def assign(cluster: Cluster, slot: int, source: ClusterNode, target: ClusterNode) -> None:
    """Move a slot without keys."""
    target.do("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
    source.do("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)
    target.do("CLUSTER", "SETSLOT", slot, "NODE", target.id)
    source.do("CLUSTER", "SETSLOT", slot, "NODE", target.id)


def without_offsets(reply: Reply) -> str:
    assert isinstance(reply, list)
    texts = sorted(
        "".join(sorted(re.split(r"(?=\['id')", re.sub(r"offset', \d+", "", render(shard)))))
        for shard in reply
    )
    return "\n".join(texts)


def test_all_tell_the_same(mixed: Cluster) -> None:
    mixed.await_agreement()
    for what in ("SLOTS", "SHARDS"):
        mixed.wait(
            lambda what=what: (
                len({without_offsets(node.do("CLUSTER", what)) for node in mixed.nodes}) == 1
            ),
            f"the same {what} everywhere",
        )
    for node in mixed.nodes:
        links = node.do("CLUSTER", "LINKS")
        assert isinstance(links, list)
        assert len(links) == 2 * 4
        with node.connect() as client:
            info = client("INFO", "clients", "memory", "cluster", "server")
            assert isinstance(info, bytes)
            assert b"cluster_connections:8" in info
            assert b"mem_cluster_links:" in info
            assert b"cluster_enabled:1" in info
            assert b"redis_mode:cluster" in info
            client("READONLY")
            number = client("CLIENT", "ID")
            assert isinstance(number, int)
            listed = client("CLIENT", "LIST", "ID", number)
            assert isinstance(listed, bytes)
            assert b" flags=r " in listed
        assert node.fields()["cluster_size"] == "3"


def test_messages_reach_all_nodes(mixed: Cluster) -> None:
    with connected(*mixed.nodes) as listeners:
        for listener in listeners:
            assert listener("SUBSCRIBE", "news")
        for node in mixed.nodes:
            text = node.name.encode()
            node.do("PUBLISH", "news", text)
            for listener in listeners:
                assert listener.read() == [b"message", b"news", text]


def test_shard_messages_reach_the_shard(mixed: Cluster) -> None:
    for master, replica in ((mixed[0], mixed[4]), (mixed[1], mixed[3])):
        slot = free_slot(master)
        channel = key_in(slot, master).encode()
        with connected(master, replica) as listeners:
            for listener in listeners:
                assert listener("SSUBSCRIBE", channel) == [b"ssubscribe", channel, 1]
            for node in (master, replica):
                text = node.name.encode()
                assert node.do("SPUBLISH", channel, text) == 1
                for listener in listeners:
                    assert listener.read() == [b"smessage", channel, text]


def test_a_slot_that_moves_takes_clients_along(mixed: Cluster) -> None:
    """Subscriptions end, who waits is sent to the new master, either way."""
    for source, target in ((mixed[0], mixed[1]), (mixed[1], mixed[2])):
        slot = free_slot(source)
        key = key_in(slot, source).encode()
        with connected(source, source, target) as (listener, waiter, other):
            assert listener("SSUBSCRIBE", key) == [b"ssubscribe", key, 1]
            waiter.send("BLPOP", key, 0)
            mixed.wait(lambda source=source: b"blocked_clients:1" in bytes_of(source), "the wait")
            assign(mixed, slot, source, target)
            assert listener.read() == [b"sunsubscribe", key, 0]
            assert waiter.read() == Error(b"MOVED %d 127.0.0.1:%d" % (slot, target.port))
            assert other("SSUBSCRIBE", key) == [b"ssubscribe", key, 1]
    mixed.await_agreement()


def bytes_of(node: ClusterNode) -> bytes:
    info = node.do("INFO", "clients")
    assert isinstance(info, bytes)
    return info


def test_slots_move_under_load(mixed: Cluster) -> None:
    """Ours to real and back: counters that are counted up all the time lose nothing."""
    slot = free_slot(mixed[0])
    tag = key_in(slot, mixed[0])
    keys = [f"{{{tag}}}{i}" for i in range(60)]
    ended = threading.Event()
    counts = dict.fromkeys(keys, 0)
    failures: list[str] = []

    def count() -> None:
        clients = {node.port: node.connect() for node in mixed.nodes[:3]}
        port = mixed[0].port
        while not ended.is_set():
            for key in keys:
                reply = clients[port]("INCR", key)
                while isinstance(reply, Error):
                    word = reply.text.split()[0]
                    if word == b"MOVED":
                        port = int(reply.text.rpartition(b":")[2])
                        reply = clients[port]("INCR", key)
                    elif word == b"ASK":
                        asked = clients[int(reply.text.rpartition(b":")[2])]
                        asked("ASKING")
                        reply = asked("INCR", key)
                    elif word == b"TRYAGAIN":
                        reply = clients[port]("INCR", key)
                    else:
                        failures.append(repr(reply))
                        return
                counts[key] += 1
                if reply != counts[key]:
                    failures.append(f"{key}: {reply!r} instead of {counts[key]}")
                    return

    thread = threading.Thread(target=count, daemon=True)
    thread.start()
    try:
        path = [mixed[0], mixed[1], mixed[2], mixed[1], mixed[0]]
        for source, target in pairwise(path):
            target.do("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
            source.do("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)
            while found := source.do("CLUSTER", "GETKEYSINSLOT", slot, 7):
                assert isinstance(found, list)
                names = [name for name in found if isinstance(name, bytes)]
                source.do(*("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS"), *names)
            target.do("CLUSTER", "SETSLOT", slot, "NODE", target.id)
            source.do("CLUSTER", "SETSLOT", slot, "NODE", target.id)
    finally:
        ended.set()
        thread.join(LIMIT)
    assert not failures
    mixed.await_agreement()
    for key in keys:
        assert mixed.call(key, "GETDEL", key) == b"%d" % counts[key]


def test_keys_of_a_slot_that_was_taken_are_deleted(mixed: Cluster) -> None:
    """Another master claims a slot by a larger epoch: whoever had it lets go of its keys."""
    for loser, winner in ((mixed[0], mixed[1]), (mixed[1], mixed[0])):
        slot = free_slot(loser)
        key = key_in(slot, loser)
        assert loser.do("SET", key, "stranded") == OK
        winner.do("CLUSTER", "SETSLOT", slot, "IMPORTING", loser.id)
        winner.do("CLUSTER", "SETSLOT", slot, "NODE", winner.id)
        mixed.wait(
            lambda loser=loser, slot=slot: loser.do("CLUSTER", "COUNTKEYSINSLOT", slot) == 0,
            "the keys' end",
        )
        assert loser.ask("GET", key) == Error(b"MOVED %d 127.0.0.1:%d" % (slot, winner.port))
        if loser.kind == OURS:  # a real one of 7.0 tells its replicas nothing of it
            mixed.wait(
                lambda slot=slot: mixed[4].do("CLUSTER", "COUNTKEYSINSLOT", slot) == 0,
                "the keys' end on the replica",
            )
    mixed.await_agreement()


def test_links_that_hold_too_much_are_freed(mixed: Cluster) -> None:
    """cluster-link-sendbuf-limit: who does not take its packets loses the link."""
    mixed[0].do("CONFIG", "SET", "cluster-link-sendbuf-limit", 2_000_000)
    mixed[1].process_stopped(True)
    try:
        with mixed[0].connect() as client:
            for _ in range(60):
                client("PUBLISH", "large", b"x" * 200_000)
        field = "total_cluster_links_buffer_limit_exceeded"
        mixed.wait(lambda: mixed[0].fields()[field] != "0", "a link's end")
        assert "exceeded memory limit" in mixed[0].log
    finally:
        mixed[1].process_stopped(False)
        mixed[0].do("CONFIG", "SET", "cluster-link-sendbuf-limit", 0)
    mixed.wait(lambda: mixed[1].ask("PING") == PONG, "an answer")
    mixed.await_agreement()


def test_names_and_addresses_are_told(mixed: Cluster) -> None:
    # A 7.0 node understands names of hosts, but says so only once it has one itself.
    for node in mixed.nodes:
        node.do("CONFIG", "SET", "cluster-announce-hostname", f"{node.name}.example")
    mixed[2].do("CONFIG", "SET", "cluster-announce-human-nodename", "third")
    mixed.wait(
        lambda: all(
            row.address.endswith(f",{mixed.by_port(row.port).name}.example")
            for node in mixed.nodes
            for row in node.rows().values()
        ),
        "everybody's knowing the hosts",
    )
    port = mixed[2].port
    mixed[2].do("CONFIG", "SET", "cluster-announce-port", 7777)
    for node in mixed.nodes:
        mixed.wait(lambda node=node: node.rows()[mixed[2].id].port == 7777, "the announced port")
    mixed[2].do("CONFIG", "SET", "cluster-announce-port", 0)
    for node in mixed.nodes:
        mixed.wait(lambda node=node: node.rows()[mixed[2].id].port == port, "the real port")
    # For clients that come through something that ends TLS before it; 7.0 keeps that for itself.
    for tls_port in (7443, 0):
        mixed[2].do("CONFIG", "SET", "cluster-announce-tls-port", tls_port)
        for node in (mixed[0], mixed[3]):
            mixed.wait(
                lambda node=node, tls_port=tls_port: (
                    render(node.do("CLUSTER", "SHARDS")).count(f"'tls-port', {tls_port}")
                    == (tls_port != 0)
                ),
                "the announced port with TLS",
            )
    for node in mixed.nodes:
        node.do("CONFIG", "SET", "cluster-announce-hostname", "")
    # What a 7.0 node says without a name says nothing about it.
    for node in (mixed[0], mixed[2], mixed[3]):
        mixed.wait(lambda node=node: b"ours-0.example" not in rows_of(node), "namelessness")


def rows_of(node: ClusterNode) -> bytes:
    rows = node.do("CLUSTER", "NODES")
    assert isinstance(rows, bytes)
    return rows


def test_a_node_is_forgotten_by_all_of_ours(mixed: Cluster) -> None:
    """FORGET is told to those who understand it (7.2); the others are told one by one."""
    guest = mixed.add(OURS)
    mixed.meet(guest)
    mixed.await_members(6)
    name = guest.id
    guest.kill()
    mixed.nodes.remove(guest)
    guest.stop()
    mixed[0].do("CLUSTER", "FORGET", name)
    for node in (mixed[0], mixed[2], mixed[3]):
        mixed.wait(lambda node=node: name not in node.rows(), "forgetting")
    for node in (mixed[1], mixed[4]):
        node.do("CLUSTER", "FORGET", name)
    for node in (mixed[0], mixed[2]):
        assert node.do("CLUSTER", "FORGET", name) == OK
    mixed.await_members(5)
    mixed.await_agreement()


def test_a_node_that_hangs_is_reported(mixed: Cluster) -> None:
    """A replica that does not answer fails by majority, and is forgiven when it answers again."""
    for victim in (mixed[3], mixed[4]):
        name = victim.id
        others = [node for node in mixed.nodes if node is not victim]
        victim.kill()
        mixed.wait(
            lambda name=name: any(
                node.do("CLUSTER", "COUNT-FAILURE-REPORTS", name) for node in mixed.nodes[:3]
            ),
            "a report",
        )
        for node in others:
            mixed.wait(lambda node=node, name=name: "fail" in node.rows()[name].flags, "FAIL")
        victim.launch()
        victim.await_ready()
        mixed.await_agreement()
        mixed.await_synchronized(victim)


def test_restart_keeps_all_that_is_known(mixed: Cluster) -> None:
    before = {node.name: node.id for node in mixed.nodes}
    # However long a start takes, nobody is to take the place of the one that starts.
    for node in mixed.nodes:
        node.do("CONFIG", "SET", "cluster-node-timeout", 60_000)
    mixed.await_agreement()
    facts = sorted(row.fact for row in mixed[0].rows().values())
    for node in (mixed[0], mixed[3]):
        # A start is by the words of the command line.
        node.directives += ["--cluster-node-timeout", "60000"]
        node.restart()
    mixed.await_agreement()
    assert {node.name: node.id for node in mixed.nodes} == before
    assert sorted(row.fact for row in mixed[0].rows().values()) == facts
    total = sum(
        int(last or first) - int(first) + 1
        for row in mixed[3].rows().values()
        for first, _, last in (word.partition("-") for word in row.slots)
    )
    assert total == SLOTS
