"""What `check` finds."""

from __future__ import annotations

import pytest

from cluster.tool.diagnosis import (
    CLAIMED_TWICE,
    DISAGREEMENT,
    EPOCHS,
    OPEN,
    STATE,
    STRAYS,
    UNCOVERED,
    UNREACHABLE,
    blocking,
    diagnose,
)
from cluster.tool.errors import Refused
from cluster.tool.picture import Picture
from tests.unit.cluster.tool.drawn import Node, member, node_id, picture

FIRST, SECOND = range(8192), range(8192, 16384)


def kinds(cluster: Picture, strays: dict[int, dict[str, int]] | None = None) -> list[str]:
    return [finding.kind for finding in diagnose(cluster, strays)]


def test_a_sound_cluster() -> None:
    cluster = picture(Node(1, FIRST, epoch=1), Node(2, SECOND, epoch=2), Node(3, master=1, epoch=1))
    assert diagnose(cluster, {}) == []
    assert [m.id for m in cluster.in_order()] == [node_id(1), node_id(3), node_id(2)]


def test_open_slots() -> None:
    cluster = picture(
        Node(1, FIRST, epoch=1, migrating={5: 2}), Node(2, SECOND, epoch=2, importing={5: 1, 6: 1})
    )
    found = diagnose(cluster)
    assert [(finding.kind, finding.slots) for finding in found] == [(OPEN, (5,)), (OPEN, (5, 6))]
    assert "127.0.0.1:7001 (00000000) is migrating to 127.0.0.1:7002" in found[0].text
    # Keys on both sides are what an open slot is for, others are strays.
    assert kinds(cluster, {5: {node_id(2): 3}}) == [OPEN, OPEN]
    assert kinds(cluster, {9: {node_id(2): 3}}) == [OPEN, OPEN, STRAYS]


def test_uncovered_slots_and_unreachable_nodes() -> None:
    one, two = Node(1, FIRST, epoch=1), Node(2, SECOND, epoch=2)
    cluster = Picture({one.id: member(one, [one, two])})
    cluster.absent[two.id] = cluster.members[one.id].view.nodes[two.id]
    cluster.reasons[two.id] = "Connection refused"
    found = diagnose(cluster)
    assert [finding.kind for finding in found] == [UNCOVERED, UNREACHABLE]
    assert found[0].as_json()["slots"] == "8192-16383"
    assert found[1].as_json()["severity"] == "warning"
    assert blocking(found) == found[:1]
    assert [line.id for line in cluster.absent_masters()] == [two.id]
    with pytest.raises(Refused, match="does not answer: Connection refused"):
        cluster.find(two.id)


def test_two_owners() -> None:
    one, two = Node(1, [*FIRST, 9000], epoch=1), Node(2, SECOND, epoch=2)
    cluster = Picture(
        {
            one.id: member(one, [one, Node(2, set(SECOND) - {9000}, epoch=2)]),
            two.id: member(two, [Node(1, FIRST, epoch=1), two]),
        }
    )
    found = diagnose(cluster)
    assert [(finding.kind, finding.slots) for finding in found] == [
        (CLAIMED_TWICE, (9000,)),
        (DISAGREEMENT, (9000,)),
    ]
    assert cluster.owner(9000) == two.id


def test_epochs_and_states() -> None:
    one, two = Node(1, FIRST, epoch=4), Node(2, SECOND, epoch=4)
    assert kinds(picture(one, two)) == [EPOCHS]
    cluster = picture(one, Node(2, SECOND, epoch=5))
    cluster.members[one.id] = member(one, [one, Node(2, SECOND, epoch=3)])
    cluster.members[one.id].state = "fail"
    assert kinds(cluster) == [EPOCHS, STATE]
    assert not blocking(diagnose(cluster))


def test_nodes_by_name() -> None:
    cluster = picture(Node(1, FIRST, epoch=1), Node(2, SECOND, epoch=2), Node(3, master=1))
    assert cluster.find(node_id(2)).id == node_id(2)
    assert cluster.find("127.0.0.1:7003").id == node_id(3)
    with pytest.raises(Refused, match="beginning of the ids of 3"):
        cluster.find("0000")
    with pytest.raises(Refused, match="No such node"):
        cluster.find("abcd")
    with pytest.raises(Refused, match="not a master"):
        cluster.find_master(node_id(3))
    assert cluster.fewest_replicas().id == node_id(2)
    assert cluster.fewest_replicas([node_id(2)]).id == node_id(1)
