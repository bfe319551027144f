"""Redis's own tools and clients take a cluster of ours for one of theirs."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import redis.asyncio
from redis.cluster import LoadBalancingStrategy, RedisCluster

from tests.conftest import StartServer, require_program
from tests.formations import OURS, Cluster, ClusterNode
from tests.wire import OK

KEYS = 300


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Three masters with a replica each, made by redis-cli, and keys of all types in them."""
    require_program("redis-cli")
    with Cluster([OURS] * 6) as cluster:
        addresses = [address(node) for node in cluster.nodes]
        said = manage("create", *addresses, "--cluster-replicas", "1")
        assert "[OK] All 16384 slots covered." in said
        cluster.await_members(6)
        cluster.await_agreement()
        with connect(cluster) as client:
            fill(client)
        # Replicas are listed once they have something.
        cluster.wait(lambda: all(len(find_endpoints(node)) == 6 for node in cluster.nodes))
        yield cluster


def find_endpoints(node: ClusterNode) -> set[int]:
    """The ports in CLUSTER SLOTS."""
    found: set[int] = set()
    ranges = node.do("CLUSTER", "SLOTS")
    assert isinstance(ranges, list)
    for each in ranges:
        assert isinstance(each, list)
        for entry in each[2:]:
            assert isinstance(entry, list)
            assert isinstance(entry[1], int)
            found.add(entry[1])
    return found


def address(node: ClusterNode) -> str:
    return f"127.0.0.1:{node.port}"


def manage(*arguments: str, code: int = 0) -> str:
    """Run redis-cli --cluster; what it has printed."""
    done = subprocess.run(
        [require_program("redis-cli"), "--cluster", *arguments, "--cluster-yes"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return re.sub("\x1b\\[[0-9;]*m", "", done.stdout)


def connect(cluster: Cluster) -> RedisCluster:
    return RedisCluster(host="127.0.0.1", port=cluster[0].port)


def fill(client: RedisCluster) -> None:
    for i in range(KEYS):
        client.set(f"s{i}", i)
        client.rpush(f"l{i}", *range(i % 7 + 1))
        client.hset(f"h{i}", mapping={"a": i, "b": "x" * i})
        client.sadd(f"t{i}", i, "x")
        client.zadd(f"z{i}", {"a": i, "b": 1.5})


def verify(client: RedisCluster) -> None:
    """All keys are there, with what they have had from the beginning."""
    for i in range(KEYS):
        assert client.get(f"s{i}") == b"%d" % i
        assert client.lrange(f"l{i}", 0, -1) == [b"%d" % j for j in range(i % 7 + 1)]
        assert client.hgetall(f"h{i}") == {b"a": b"%d" % i, b"b": b"x" * i}
        assert client.smembers(f"t{i}") == {b"%d" % i, b"x"}
        assert client.zscore(f"z{i}", "a") == i
        assert client.zcard(f"z{i}") == 2


def masters_of(cluster: Cluster) -> list[ClusterNode]:
    return [node for node in cluster.nodes if node.is_master]


def slot_count(node: ClusterNode) -> int:
    bounds = [word.partition("-") for word in node.myself().slots]
    return sum(int(last or first) - int(first) + 1 for first, _, last in bounds)


def test_check_and_info(cluster: Cluster) -> None:
    said = manage("check", address(cluster[0]))
    assert "[OK] All nodes agree about slots configuration." in said
    assert "[OK] All 16384 slots covered." in said
    assert "1 additional replica(s)" in said
    said = manage("info", address(cluster[1]))
    assert f"[OK] {5 * KEYS} keys in 3 masters." in said
    assert manage("call", address(cluster[0]), "PING").count("PONG") == 6


def test_interactive_client_follows_redirections(cluster: Cluster) -> None:
    lines = [f"SET cli{i} {i}" for i in range(20)] + [f"GET cli{i}" for i in range(20)]
    done = subprocess.run(
        [require_program("redis-cli"), "-c", "-p", str(cluster[0].port)],
        input="\n".join([*lines, "MGET {a}1 {a}2", "DEL cli0"]),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    words = done.stdout.split()
    assert words.count("OK") == 20
    assert [word for word in words if word.isdigit()][:20] == [str(i) for i in range(20)]
    assert "MOVED" not in done.stdout


def test_cluster_clients(cluster: Cluster) -> None:
    with connect(cluster) as client:
        verify(client)
        assert client.mget_nonatomic("s1", "s2", "s3") == [b"1", b"2", b"3"]
        assert client.cluster_keyslot("foo") == 12182
        assert len(client.get_replicas()) == 3
        assert client.dbsize(target_nodes=RedisCluster.PRIMARIES) >= 5 * KEYS
        pipeline = client.pipeline()
        for i in range(50):
            pipeline.get(f"s{i}")
        assert pipeline.execute() == [b"%d" % i for i in range(50)]
    reader = RedisCluster(
        host="127.0.0.1",
        port=cluster[0].port,
        load_balancing_strategy=LoadBalancingStrategy.ROUND_ROBIN,
    )
    with reader:
        for i in range(50):
            assert reader.get(f"s{i}") == b"%d" % i

    async def run() -> None:
        async with redis.asyncio.RedisCluster(host="127.0.0.1", port=cluster[1].port) as client:
            await asyncio.gather(*(client.set(f"a{i}", i) for i in range(50)))
            values = await asyncio.gather(*(client.get(f"a{i}") for i in range(50)))
            assert values == [b"%d" % i for i in range(50)]
            await asyncio.gather(*(client.delete(f"a{i}") for i in range(50)))

    asyncio.run(run())


def test_benchmark(cluster: Cluster) -> None:
    done = subprocess.run(
        [
            *(require_program("redis-benchmark"), "--cluster", "-p", str(cluster[0].port)),
            *("-n", "3000", "-c", "9", "-t", "set,get,incr", "--csv", "-r", "1000"),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "Cluster has 3 master nodes" in done.stdout
    assert [line.split(",")[0] for line in done.stdout.splitlines() if line[:1] == '"'][1:] == [
        '"SET"',
        '"GET"',
        '"INCR"',
    ]
    with connect(cluster) as client:
        for node in masters_of(cluster):
            with node.connect() as line:
                found = line("KEYS", "*:*")
            assert isinstance(found, list)
            for key in found:
                assert isinstance(key, bytes)
                client.delete(key)


def test_reshard_and_rebalance(cluster: Cluster) -> None:
    source, target = masters_of(cluster)[:2]
    before = slot_count(source), slot_count(target)
    manage(
        *("reshard", address(cluster[2]), "--cluster-from", source.id, "--cluster-to", target.id),
        *("--cluster-slots", "200", "--cluster-pipeline", "20"),
    )
    cluster.await_agreement()
    assert (slot_count(source), slot_count(target)) == (before[0] - 200, before[1] + 200)
    with connect(cluster) as client:
        verify(client)
    manage("rebalance", address(cluster[0]), "--cluster-weight", f"{source.id}=1.05")
    cluster.await_agreement()
    assert slot_count(source) > 5600
    manage("rebalance", address(cluster[0]))
    cluster.await_agreement()
    assert {slot_count(node) for node in masters_of(cluster)} <= {5461, 5462}
    with connect(cluster) as client:
        verify(client)


def test_fix_closes_open_slots(cluster: Cluster) -> None:
    slot = 12182  # of foo
    source = cluster.master_of(slot)
    target = next(node for node in masters_of(cluster) if node is not source)
    for i in range(10):
        assert source.do("SET", f"{{foo}}{i}", i) == OK
    target.do("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
    source.do("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)
    source.do("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", "{foo}0", "{foo}1")
    assert "has slots in" in manage("check", address(cluster[0]), code=1)
    assert "[OK] All 16384 slots covered." in manage("fix", address(cluster[0]))
    assert "[WARNING]" not in manage("check", address(cluster[0]))
    for i in range(10):
        assert cluster.call("foo", "GET", f"{{foo}}{i}") == b"%d" % i
    for i in range(10):
        cluster.call("foo", "DEL", f"{{foo}}{i}")


def test_nodes_come_and_go(cluster: Cluster) -> None:
    new = cluster.add(OURS)
    try:
        manage("add-node", address(new), address(cluster[0]))
        cluster.await_members(7)
        cluster.await_agreement()
        manage(
            *("reshard", address(cluster[0]), "--cluster-from", "all", "--cluster-to", new.id),
            *("--cluster-slots", "60"),
        )
        cluster.await_agreement()
        assert slot_count(new) in range(57, 61)  # what it rounds off is nobody's
        with connect(cluster) as client:
            verify(client)
        assert "is not empty" in manage("del-node", address(cluster[0]), new.id, code=1)
        manage("rebalance", address(cluster[0]), "--cluster-weight", f"{new.id}=0")
        cluster.await_agreement()
        assert slot_count(new) == 0
        manage("del-node", address(cluster[0]), new.id)
        cluster.wait(lambda: new.fields()["cluster_known_nodes"] == "1", "the reset")
        assert new.is_master
    finally:
        cluster.nodes.remove(new)
        new.stop()
    cluster.await_members(6)
    cluster.await_agreement()
    with connect(cluster) as client:
        verify(client)


def test_import(cluster: Cluster, start_node: StartServer) -> None:
    source = start_node()
    with source.connect() as client:
        for i in range(50):
            assert client("SET", f"import{i}", i) == OK
    manage("import", address(cluster[0]), "--cluster-from", f"127.0.0.1:{source.port}")
    for i in range(50):
        key = f"import{i}"
        assert cluster.call(key, "GETDEL", key) == b"%d" % i


def test_backup(cluster: Cluster, tmp_path: Path) -> None:
    manage("backup", address(cluster[0]), str(tmp_path))
    files = sorted(tmp_path.iterdir())
    assert sum(path.suffix == ".rdb" for path in files) == 3
    assert any(path.name == "nodes.json" for path in files)
