"""Sentinels of ours guard a cluster of our nodes, and one of real ones."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from tests.conftest import require_oracle
from tests.formations import OURS, REAL, ClusterNode
from tests.guarded import NAME, Guarded, fields_of, guarded_cluster
from tests.servers import Server, free_port, node_command
from tests.wire import OK, Error


@pytest.fixture(scope="module", params=[REAL, OURS])
def guarded(request: pytest.FixtureRequest) -> Iterator[Guarded]:
    """Three masters with a replica each. Each test leaves the cluster whole."""
    with guarded_cluster([request.param] * 6, 3, {3: 0, 4: 1, 5: 2}, require_oracle()) as formation:
        yield formation


only_real = pytest.mark.parametrize("guarded", [REAL], indirect=True)


def follows(node: ClusterNode, master: str) -> bool:
    """Whether a node says that it is a replica of that one."""
    return node.myself().master == master


def fail_over(guarded: Guarded, victims: list[ClusterNode]) -> None:
    """Kill masters at once; each of them must be replaced by its replica, and come back as one."""
    names = {victim.name: guarded.shard_of(victim) for victim in victims}
    heirs = {victim.name: guarded.replica_of(victim) for victim in victims}
    ids = {victim.name: victim.id for victim in victims}
    for victim in victims:
        victim.kill()
    guarded.await_whole()
    for victim in victims:
        for sentinel in guarded.sentinels:
            assert guarded.leaders(sentinel)[names[victim.name]] == heirs[victim.name].port
            address = guarded.ask(
                sentinel, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", names[victim.name]
            )
            assert address == [b"127.0.0.1", b"%d" % heirs[victim.name].port]
    for victim in victims:
        victim.launch()
    for victim in victims:
        victim.await_ready()
        heir = heirs[victim.name].id
        guarded.wait(partial(follows, victim, heir), "the return of the old master")
        assert victim.id == ids[victim.name]

    def is_watched() -> bool:
        for sentinel in guarded.sentinels:
            shards = guarded.shards(sentinel)
            for victim in victims:
                replicas = shards[names[victim.name]]["replicas"]
                known = [r for r in replicas if int(r["port"]) == victim.port]
                if [(r["id"], r["flags"]) for r in known] != [(ids[victim.name], "slave")]:
                    return False
        return True

    guarded.wait(is_watched, "the old masters as replicas at all sentinels")
    for victim in victims:
        guarded.cluster.await_synchronized(victim)
    guarded.await_whole()


@only_real
def test_what_the_sentinels_say(guarded: Guarded) -> None:
    first = guarded.describe(guarded.sentinels[0])
    assert (first["name"], first["num-shards"], first["num-nodes"]) == (NAME, 3, 6)
    assert first["slots-covered"] == 16384
    assert first["num-other-sentinels"] == 2
    for name, shard in guarded.shards(guarded.sentinels[1]).items():
        assert name.startswith(f"{NAME}/")
        assert len(shard["replicas"]) == 1
        row = fields_of(guarded.ask(guarded.sentinels[1], "SENTINEL", "MASTER", name))
        assert row["cluster"] == NAME
        assert row["node-id"] == shard["master"]["id"]
        assert row["down-after-milliseconds"] == "1000"
    reply = guarded.ask(guarded.sentinels[2], "SENTINEL", "CKQUORUM", NAME)
    assert reply == guarded.ask(guarded.sentinels[2], "SENTINEL", "CKQUORUM", name)
    with guarded.sentinels[0].connect() as client:
        assert client("SENTINEL", "CLUSTER", "other") == Error(
            b"ERR No such cluster with that name"
        )
        assert client("SENTINEL", "REMOVE", name) == Error(
            b"ERR A shard cannot be removed alone, only its cluster"
        )


def test_a_master_is_killed(guarded: Guarded) -> None:
    fail_over(guarded, [guarded.cluster.master_of(0)])


def test_a_majority_of_the_masters_is_killed_at_once(guarded: Guarded) -> None:
    """What Redis Cluster cannot do by itself."""
    fail_over(guarded, [guarded.cluster.master_of(0), guarded.cluster.master_of(16383)])


def test_others_fail_over_and_move_slots(guarded: Guarded) -> None:
    cluster = guarded.cluster
    old = cluster.master_of(8000)
    name = guarded.shard_of(old)
    new = guarded.replica_of(old)
    new.do("CLUSTER", "FAILOVER")
    guarded.wait(
        lambda: all(guarded.leaders(s)[name] == new.port for s in guarded.sentinels),
        "the new master at all sentinels",
    )
    guarded.await_whole()
    target = cluster.master_of(0)
    before = guarded.shards(guarded.sentinels[0])[name]["slots-count"]
    for slot in range(8000, 8010):
        target.do("CLUSTER", "SETSLOT", slot, "IMPORTING", new.id)
        new.do("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)
        target.do("CLUSTER", "SETSLOT", slot, "NODE", target.id)
        new.do("CLUSTER", "SETSLOT", slot, "NODE", target.id)
    guarded.wait(
        lambda: all(
            guarded.shards(s)[name]["slots-count"] == before - 10 for s in guarded.sentinels
        ),
        "the moved slots at all sentinels",
    )
    guarded.await_whole()


@only_real
def test_failover_on_request(guarded: Guarded) -> None:
    """Of a master that is well: it hands over, and is a replica afterwards."""
    old = guarded.cluster.master_of(0)
    name = guarded.shard_of(old)
    new = guarded.replica_of(old)
    known = len(guarded.sentinels[0].log)
    assert guarded.ask(guarded.sentinels[0], "SENTINEL", "FAILOVER", name) == OK
    guarded.wait(lambda: old.myself().master == new.id, "the handover")
    guarded.await_whole()
    told = guarded.sentinels[0].log[known:]
    assert "+handover-sent" in told
    assert "+takeover-sent" not in told


def test_a_node_at_another_address_is_the_same_one(guarded: Guarded) -> None:
    cluster = guarded.cluster
    master = cluster.master_of(0)
    replica = guarded.replica_of(master)
    name = guarded.shard_of(master)
    node_id = replica.id
    replica.kill()
    replica.port = free_port()
    replica.launch()
    replica.await_ready()

    def is_known() -> bool:
        for sentinel in guarded.sentinels:
            known = guarded.shards(sentinel)[name]["replicas"]
            if [(r["id"], int(r["port"]), r["flags"]) for r in known] != [
                (node_id, replica.port, "slave")
            ]:
                return False
        return True

    guarded.wait(is_known, "the replica at its new address")
    cluster.await_synchronized(replica)
    guarded.await_whole()
    # ... and it can be promoted there.
    fail_over(guarded, [master])


@only_real
def test_a_sentinel_that_starts_again_knows_its_cluster(guarded: Guarded) -> None:
    sentinel = guarded.sentinels[2]
    before = guarded.leaders(sentinel)
    for path in ("known-cluster-node", "config-epoch", "leader-epoch", "known-sentinel"):
        assert sentinel.file.read_text().count(f"sentinel {path} ") >= 3
    sentinel.kill()
    sentinel.launch()
    sentinel.await_ready()
    assert guarded.leaders(sentinel) == before
    guarded.await_whole()
    assert guarded.leaders(sentinel) == before
    fail_over(guarded, [guarded.cluster.master_of(5461)])


@only_real
def test_a_plain_master_beside_it(guarded: Guarded) -> None:
    sentinel = guarded.sentinels[0]
    with Server(node_command()) as server, sentinel.connect() as client:
        assert client("SENTINEL", "MONITOR", "single", "127.0.0.1", server.port, 1) == OK
        assert client("SENTINEL", "MONITOR", NAME, "127.0.0.1", server.port, 1) == Error(
            b"ERR Duplicate master name."
        )
        role = client("ROLE")
        assert isinstance(role, list)
        assert isinstance(role[1], list)
        names = [name.decode() for name in role[1] if isinstance(name, bytes)]
        assert sorted(names) == sorted(["single", *guarded.leaders(sentinel)])
        assert client("SENTINEL", "SET", NAME, "failover-timeout", 6000) == OK
        for name in guarded.leaders(sentinel):
            row = fields_of(client("SENTINEL", "MASTER", name))
            assert row["failover-timeout"] == "6000"
        assert client("SENTINEL", "REMOVE", "single") == OK
    guarded.await_whole()


@only_real
def test_it_is_removed_and_guarded_again(guarded: Guarded) -> None:
    sentinel = guarded.sentinels[1]
    before = guarded.leaders(sentinel)
    with sentinel.connect() as client:
        assert client("SENTINEL", "REMOVE", NAME) == OK
        assert client("SENTINEL", "MASTERS") == []
        assert client("SENTINEL", "CLUSTERS") == []
        entry = guarded.cluster[5].port
        assert client("SENTINEL", "MONITOR-CLUSTER", "a/b", "127.0.0.1", entry, 2) == Error(
            b"ERR The name of a cluster cannot contain '/'."
        )
        assert client("SENTINEL", "MONITOR-CLUSTER", NAME, "127.0.0.1", entry, 2) == OK
        assert client("SENTINEL", "SET", NAME, "down-after-milliseconds", 1000) == OK
    guarded.await_whole()
    assert guarded.leaders(sentinel) == before  # by the others' names


@only_real
def test_a_master_that_comes_back_without_its_data_is_not_the_master(guarded: Guarded) -> None:
    """Before anybody has missed it; but the node that is there is another one. The last test."""
    master = guarded.cluster.master_of(0)
    name = guarded.shard_of(master)
    heir = guarded.replica_of(master)
    master.kill()
    (master.folder / "nodes.conf").unlink()
    master.launch()
    master.await_ready()
    guarded.wait(lambda: heir.myself().slots, "the replica as master")
    guarded.wait(
        lambda: all(guarded.leaders(s)[name] == heir.port for s in guarded.sentinels),
        "the new master at all sentinels",
    )


def test_a_cluster_of_one_master() -> None:
    with guarded_cluster([OURS, OURS], 1, {1: 0}) as guarded:
        fail_over(guarded, [guarded.cluster[0]])
