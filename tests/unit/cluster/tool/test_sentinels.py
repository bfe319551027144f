"""What the tool makes of a sentinel's answers."""

from __future__ import annotations

import pytest

from cluster.tool.connection import Address, Reply
from cluster.tool.diagnosis import Finding
from cluster.tool.sentinels import (
    Guarded,
    diagnose_sentinel,
    list_shards,
    parse_cluster,
    parse_fields,
)
from cluster.up.sentinels import describe, describe_event, make_sentinel_row, sentinel_addresses
from tests.unit.cluster.tool.drawn import Node, node_id, picture

HERE = Address("127.0.0.1", 27001)
CLUSTER = (
    Node(1, range(8192), epoch=1),
    Node(2, range(8192, 16384), epoch=2),
    Node(3, master=1),
)


def flat(**fields: Reply) -> Reply:
    """As a sentinel answers."""
    items: list[Reply] = []
    for name, value in fields.items():
        items += [
            name.replace("_", "-").encode(),
            value.encode() if isinstance(value, str) else value,
        ]
    return items


def node(number: int, flags: str = "", port: int = 0) -> Reply:
    return flat(id=node_id(number), ip="127.0.0.1", port=port or 7000 + number, flags=flags)


def shard(name: str, master: Reply, *replicas: Reply, others: int = 2) -> Reply:
    return flat(
        name=name,
        slots_count=8192,
        config_epoch=3,
        num_other_sentinels=others,
        master=master,
        replicas=list(replicas),
    )


def guarded(*shards: Reply) -> Guarded:
    return parse_cluster(HERE, flat(name="shop", quorum=2, shards=list(shards), more=b"later"))


def texts(found: list[Finding]) -> list[str]:
    return [finding.text.removeprefix(f"The sentinel {HERE} ") for finding in found]


def test_all_is_well() -> None:
    seen = guarded(
        shard("shop/1", node(1, "master"), node(3, "slave")), shard("shop/2", node(2, "master"))
    )
    assert diagnose_sentinel(seen, picture(*CLUSTER)) == []
    assert seen.others == 2
    assert seen.as_json()["shards"][0]["replicas"][0]["id"] == node_id(3)
    _, rows = list_shards(seen)
    assert [row[0] for row in rows] == ["shop/1", "", "shop/2"]
    assert [row[4] for row in rows] == ["ok", "ok", "ok"]
    row = make_sentinel_row(HERE, [seen])
    assert (row.role, row.which, row.state) == ("sentinel", "guards 2 shards, 2 others", "ok")


def test_what_does_not_fit() -> None:
    seen = guarded(
        shard("shop/1", node(3, "master,failover_in_progress"), node(1, "s_down,slave"), others=0),
    )
    found = diagnose_sentinel(seen, picture(*CLUSTER))
    assert all(finding.warning for finding in found)
    assert texts(found) == [
        f"takes 127.0.0.1:7003 ({node_id(3)[:8]}) for the master of shop/1",
        "misses 127.0.0.1:7001 of shop/1",
        f"does not guard 127.0.0.1:7001 ({node_id(1)[:8]})",
        f"does not guard 127.0.0.1:7002 ({node_id(2)[:8]})",
        "knows 0 others, too few for a quorum of 2",
    ]
    _, rows = list_shards(seen)
    assert [row[4] for row in rows] == ["failover", "s_down"]
    moved = guarded(shard("shop/1", node(1, "master", port=9)), shard("shop/2", node(2, "master")))
    assert texts(diagnose_sentinel(moved, picture(*CLUSTER))) == [
        f"knows 127.0.0.1:7001 ({node_id(1)[:8]}) at 127.0.0.1:9"
    ]
    down = guarded(shard("shop/1", node(1, "s_down,o_down,master,disconnected")))
    assert make_sentinel_row(HERE, [down]).state == "1 of its masters down"
    assert make_sentinel_row(HERE, []).state == "looking"


@pytest.mark.parametrize("reply", [None, [b"a"], 5, b"x"])
def test_what_is_no_answer(reply: Reply) -> None:
    with pytest.raises(ValueError, match="not a list of fields"):
        parse_fields(reply)


def test_config_files_and_events() -> None:
    first, second = sentinel_addresses(Address("127.0.0.1", 7000), 2)
    assert (first.port, second.port) == (27000, 27001)
    lines = describe(Address("127.0.0.1", 7000), second, 3, 700).splitlines()
    assert lines[0] == "port 27001"
    assert "sentinel monitor-cluster sentrio 127.0.0.1 7000 2" in lines
    assert "sentinel down-after-milliseconds sentrio 700" in lines
    assert describe_event("+odown", "master x") == "Sentinels: +odown master x"
    assert describe_event("+slave", "slave x") == ""
    assert describe_event("__sentinel__:hello", "x") == ""
