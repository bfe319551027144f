"""Who has a slot, of those who claim it, and of those who do no more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.machine import Machine
from cluster.message import PING, Packet
from cluster.state import MASTER, Node
from tests.unit.cluster.test_routing import ClusterNode

SLOT = 12182
THIRD = "c" * 40


@pytest.fixture
def node(tmp_path: Path) -> Iterator[ClusterNode]:
    local = ClusterNode(tmp_path)
    yield local
    local.close()


def hear(machine: Machine, sender: Node, slots: bytes, epoch: int) -> None:
    """A ping of a master that claims those slots."""
    packet = Packet(PING, sender.name)
    packet.config_epoch, packet.slots = epoch, slots
    machine.ownership.compare(sender, packet)


def test_a_packet_that_was_overtaken_frees_no_slot(node: ClusterNode) -> None:
    """An operator moves a slot from a third node to the other one, and tells this one.

    Then comes what both have sent before that.
    """
    machine, state = node.cluster.machine, node.cluster.state
    source, target = Node(THIRD, MASTER, machine.now), node.other
    state.add(source)
    before = bytes(target.slots)
    state.move(1 << SLOT, source)
    without, claim = bytes(target.slots), bytes(source.slots)
    source.config_epoch, target.config_epoch = 5, 6
    machine.set_slot(SLOT, target, machine.now)
    hear(machine, target, without, 6)
    hear(machine, source, claim, 5)
    assert state.owners[SLOT] is target
    # What is heard later than that is no packet of the past.
    machine.now += machine.settings.node_timeout + 1
    hear(machine, target, without, 6)
    hear(machine, source, claim, 5)
    assert state.owners[SLOT] is source
    # And a claim that has only just been heard is not undone by an older packet either.
    hear(machine, target, before, 6)
    assert state.owners[SLOT] is target
    hear(machine, target, without, 6)
    hear(machine, source, claim, 5)
    assert state.owners[SLOT] is target
