"""What nodes of both kinds get to know of each other, where they differ from what is usual.

A node behind a NAT, names for people, keys that are found at the start, what links hold, replicas
that move to where there are none. The tests use one cluster, in the order in which they stand.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chaos.proxy import Proxy
from tests.clusters import run_tool
from tests.conftest import require_oracle
from tests.formations import NODE_TIMEOUT, OURS, REAL, Cluster, ClusterNode, connected
from tests.wire import OK, Error

KEYS = {0: "bar", 1: "foo"}  # by the number of the master: slots 5061 and 12182
# A machine's other address, as far as the test is concerned.
OUTSIDE = "127.0.0.2"
# More than the kernel takes for a peer that does not read.
FLOOD = 60 * [b"x" * 200_000]


@pytest.fixture(scope="module")
def mixed() -> Iterator[Cluster]:
    """Masters with slots: a real one, one of ours. The others have none: ours, real, ours."""
    with Cluster([REAL, OURS, OURS, REAL, OURS], require_oracle()) as cluster:
        while cluster[2].id > cluster[3].id:
            # Of two replicas the one with the smaller name will move.
            assert cluster[2].do("CLUSTER", "RESET", "HARD") == OK
        yield cluster.form(2)


def test_a_node_behind_a_nat(mixed: Cluster) -> None:
    """Everybody uses what it announces; what its connections come from is somebody else's."""
    guest = ClusterNode(OURS, mixed[1].command, name="behind")
    mixed.nodes.append(guest)
    guest.launch()
    guest.await_ready()
    with (
        Proxy(guest.address, host=OUTSIDE) as clients,
        Proxy(("127.0.0.1", guest.bus_port), host=OUTSIDE) as bus,
    ):
        announced: dict[str, str | int] = {
            "ip": OUTSIDE,
            "port": clients.port,
            "bus-port": bus.port,
        }
        for what, value in announced.items():
            guest.do("CONFIG", "SET", f"cluster-announce-{what}", value)
        mixed[0].do("CLUSTER", "MEET", OUTSIDE, clients.port, bus.port)
        mixed.await_members(len(mixed.nodes))
        name = guest.id
        address = f"{OUTSIDE}:{clients.port}@{bus.port}"
        for node in mixed.nodes:
            mixed.wait(
                lambda node=node: (
                    (row := node.rows()[name]).address.rstrip(",") == address and row.connected
                ),
                f"the announced address on {node.name}",
            )
        assert bus.accepted
        # Its slots, its clients and its replicas.
        slot, key = 5061, KEYS[0]
        guest.do("CLUSTER", "SETSLOT", slot, "IMPORTING", mixed[0].id)
        guest.do("CLUSTER", "SETSLOT", slot, "NODE", name)
        moved = Error(f"MOVED {slot} {OUTSIDE}:{clients.port}".encode())
        for node in mixed.nodes[:-1]:
            mixed.wait(lambda node=node: node.ask("GET", key) == moved, "a redirection")
        for node in (mixed[2], mixed[3]):
            node.do("CLUSTER", "REPLICATE", name)
        for node in (mixed[2], mixed[3]):
            mixed.await_synchronized(node)
        assert clients.accepted
        # Nothing of it stays.
        for node in (mixed[2], mixed[3]):
            node.do("CLUSTER", "RESET")
        mixed[0].do("CLUSTER", "SETSLOT", slot, "IMPORTING", name)
        mixed[0].do("CLUSTER", "SETSLOT", slot, "NODE", mixed[0].id)
        mixed.wait(lambda: guest.myself().slots == (), "the slot's return")
        # Without an announcement it is where its connections come from, and learns it from them.
        for what in announced:
            guest.do("CONFIG", "SET", f"cluster-announce-{what}", 0 if "port" in what else "")
        address = f"127.0.0.1:{guest.port}@{guest.bus_port}"
        for node in (mixed[0], mixed[1], guest):
            mixed.wait(
                lambda node=node: node.rows()[name].address.rstrip(",") == address,
                f"the real address on {node.name}",
            )
    guest.kill()
    mixed.nodes.remove(guest)
    guest.stop()
    for node in mixed.nodes:
        node.ask("CLUSTER", "FORGET", name)
    for node in (mixed[2], mixed[3]):
        mixed.meet(node)
    mixed.await_members(len(mixed.nodes))
    for node in (mixed[2], mixed[3]):
        # The others have noted its master's epoch for it, and believe in no smaller one.
        node.do("CLUSTER", "BUMPEPOCH")
    mixed.await_agreement()


def test_a_name_for_people(mixed: Cluster) -> None:
    """7.2 tells names for people to those who understand them, and keeps them in the file."""
    mixed[1].do("CONFIG", "SET", "cluster-announce-human-nodename", "the-second")

    def is_noted(node: ClusterNode, text: str) -> bool:
        lines = (node.folder / "nodes.conf").read_text().splitlines()
        (line,) = (line for line in lines if line.startswith(mixed[1].id))
        return text in line

    for node in (mixed[1], mixed[2], mixed[4]):
        mixed.wait(lambda node=node: is_noted(node, ",nodename=the-second,"), "the name")
    # The others go on as ever, and it is no part of what clients are told.
    assert not any(b"the-second" in _nodes(node) for node in mixed.nodes)
    mixed[2].restart()
    assert is_noted(mixed[2], ",nodename=the-second,")
    mixed[1].do("CONFIG", "SET", "cluster-announce-human-nodename", "")
    for node in (mixed[1], mixed[2], mixed[4]):
        mixed.wait(lambda node=node: not is_noted(node, "nodename="), "namelessness")
    mixed.await_agreement()


def _nodes(node: ClusterNode) -> bytes:
    text = node.do("CLUSTER", "NODES")
    assert isinstance(text, bytes)
    return text


@pytest.mark.parametrize("index", [0, 1], ids=["real", "ours"])
def test_keys_found_in_slots_of_others(mixed: Cluster, index: int) -> None:
    """The slot is marked as being imported: the keys are there for who is sent by ASK."""
    holder, owner = mixed[index], mixed[1 - index]
    key = KEYS[index]
    slot = holder.do("CLUSTER", "KEYSLOT", key)
    assert isinstance(slot, int)
    assert holder.do("SET", key, "old") == OK
    assert holder.do("SAVE") == OK
    assert holder.do("DEL", key) == 1
    owner.do("CLUSTER", "SETSLOT", slot, "IMPORTING", holder.id)
    owner.do("CLUSTER", "SETSLOT", slot, "NODE", owner.id)
    mixed.await_agreement()
    holder.do("CLUSTER", "SAVECONFIG")
    holder.kill()
    holder.launch()
    holder.await_ready()
    text = f"I have keys for slot {slot}, but the slot is assigned to another node. "
    assert text + "Setting it to importing state." in holder.log
    assert holder.myself().open_slots == (f"[{slot}-<-{owner.id}]",)
    mixed.await_agreement()
    with connected(holder) as (client,):
        assert client("GET", key) == Error(f"MOVED {slot} 127.0.0.1:{owner.port}".encode())
        assert client("ASKING") == OK
        assert client("GET", key) == b"old"
    # It can be given back, with its keys.
    holder.do("CLUSTER", "SETSLOT", slot, "NODE", holder.id)
    (holder.folder / "dump.rdb").unlink()
    mixed.await_agreement()
    assert mixed.call(key, "GETDEL", key) == b"old"


@pytest.mark.parametrize("index", [0, 1], ids=["real", "ours"])
def test_what_links_hold_is_told(mixed: Cluster, index: int) -> None:
    """MEMORY STATS cluster.links: what waits for a peer that does not read."""
    sender, sleeper = mixed[index], mixed[4]

    def held() -> int:
        stats = sender.do("MEMORY", "STATS")
        assert isinstance(stats, list)
        value = stats[stats.index(b"cluster.links") + 1]
        assert isinstance(value, int)
        return value

    mixed.wait(lambda: held() < 1_000_000, "empty links")
    sleeper.process_stopped(True)
    try:
        with connected(sender) as (client,):
            for text in FLOOD:
                client("PUBLISH", "flood", text)
        mixed.wait(lambda: held() > 1_000_000, "links that hold much")
    finally:
        sleeper.process_stopped(False)
    mixed.wait(lambda: held() < 1_000_000, "what was held being taken")
    mixed.await_agreement()


def test_the_time_out_of_both_kinds(mixed: Cluster) -> None:
    """``sentrio cluster set-timeout``, with a node that does not answer."""
    entry = f"127.0.0.1:{mixed[0].port}"
    name = mixed[4].id
    mixed[4].kill()
    outcome = run_tool("set-timeout", entry, "2500", "--json")
    assert outcome.code == 1
    assert list(outcome.document["failed"]) == [name]
    mixed[4].launch()
    mixed[4].await_ready()
    mixed.await_agreement()
    assert run_tool("set-timeout", entry, "2000", "--dry-run").code == 0
    found = [_time_out(node) for node in mixed.nodes]
    assert found == [2500, 2500, 2500, 2500, NODE_TIMEOUT]
    assert run_tool("set-timeout", entry, str(NODE_TIMEOUT)).code == 0
    assert [_time_out(node) for node in mixed.nodes] == [NODE_TIMEOUT] * 5


def _time_out(node: ClusterNode) -> int:
    reply = node.do("CONFIG", "GET", "cluster-node-timeout")
    assert isinstance(reply, list)
    assert isinstance(reply[1], bytes)
    return int(reply[1])


def test_a_replica_moves_to_a_master_without_any(mixed: Cluster) -> None:
    """One of ours goes to a real master; the real one beside it agrees that it is not to go."""
    mover, stayer, only = mixed[2], mixed[3], mixed[4]
    for replica, master in ((2, 1), (3, 1), (4, 0)):
        mixed.replicate(replica, master)
    for node in (mover, stayer, only):
        mixed.await_synchronized(node)
    mixed.await_agreement()
    orphan, giver = mixed[0].id, mixed[1].id
    only.kill()
    mixed.wait(lambda: mover.myself().master == orphan, "the move")
    mixed.await_synchronized(mover)
    for node in mixed.alive:
        mixed.wait(lambda node=node: node.rows()[mover.id].master == orphan, "its being known")
    assert stayer.myself().master == giver
    assert mixed.call(KEYS[0], "SET", KEYS[0], "there") == OK
    with connected(mover) as (client,):
        assert client("READONLY") == OK
        mixed.wait(lambda: client("GET", KEYS[0]) == b"there", "what is written there")
    only.launch()
    only.await_ready()
    mixed.await_agreement()
