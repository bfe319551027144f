"""Whose the slots are: owners, bitmaps and counts agree, whatever happens to them."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from cluster.slots import SLOTS
from cluster.state import MASTER, MYSELF, Node, State, draw_name, find_runs, iterate_bits


def make_state(draw: random.Random, masters: int) -> State:
    """A cluster of masters without slots, epochs 1, 2, ..."""
    state = State(Node(draw_name(draw), MYSELF | MASTER, 0))
    for _ in range(masters - 1):
        state.add(Node(draw_name(draw), MASTER, 0))
    for epoch, node in enumerate(state.nodes.values(), 1):
        node.config_epoch = epoch
    return state


def draw_slots(draw: random.Random) -> int:
    """Some slots, as bits: one, a range, scattered ones, all."""
    kind = draw.randrange(4)
    if kind == 0:
        return 1 << draw.randrange(SLOTS)
    if kind == 1:
        first = draw.randrange(SLOTS)
        return (1 << draw.randrange(first, SLOTS) + 1) - (1 << first)
    if kind == 2:
        return draw.getrandbits(SLOTS) & draw.getrandbits(SLOTS)
    return (1 << SLOTS) - 1


@pytest.mark.parametrize("seed", range(8))
def test_moves_against_a_recount(seed: int) -> None:
    draw = random.Random(seed)
    state = make_state(draw, 4)
    nodes = list(state.nodes.values())
    owners: list[Node | None] = [None] * SLOTS
    for _ in range(60):
        bits = draw_slots(draw)
        node = draw.choice(nodes)
        if draw.random() < 0.2:
            for slot in list(iterate_bits(bits))[:50]:
                state.unassign(slot)
                owners[slot] = None
        else:
            state.unclaimed |= bits & draw_slots(draw)
            state.moved = 0
            state.move(bits, node)
            changed = [slot for slot in iterate_bits(bits) if owners[slot] is not node]
            assert list(iterate_bits(state.moved)) == changed
            for slot in changed:
                owners[slot] = node
            assert not state.unclaimed & bits
        assert state.owners == owners
        state.check()


@pytest.mark.parametrize("seed", range(8))
def test_runs_of_bits(seed: int) -> None:
    draw = random.Random(seed)
    bits = draw_slots(draw)
    runs = find_runs(bits)
    assert [slot for a, b in runs for slot in range(a, b + 1)] == [
        slot for slot in range(SLOTS) if bits >> slot & 1
    ]
    assert all(after[0] > before[1] + 1 for before, after in pairwise(runs))
    assert find_runs(0) == []
