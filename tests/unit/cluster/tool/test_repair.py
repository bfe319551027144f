"""What mends a slot: in a model of it, every repair must end well."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cluster.tool.repair import Repair, SlotState, decide, plan_repairs, slots_to_examine
from tests.unit.cluster.tool.drawn import Node, node_id, picture

IDS = ("a", "b", "c", "d")
MASTERS = {"a": (1, 10), "b": (2, 20), "c": (3, 30)}  # d is not among them


@st.composite
def states(draw: st.DrawFn) -> SlotState:
    """Anything that nodes may say about a slot, likely or not."""
    node = st.sampled_from(IDS)
    return SlotState(
        7,
        tuple(sorted(draw(st.sets(st.sampled_from("abc"), max_size=3)))),
        draw(st.dictionaries(node, node, max_size=2)),
        draw(st.dictionaries(node, node, max_size=3)),
        draw(st.dictionaries(st.sampled_from("abc"), st.integers(0, 5))),
    )


def carry_out(state: SlotState, repair: Repair | None) -> SlotState:
    """The slot as the executors leave it."""
    if repair is None:
        return state
    owners = set(state.owners) - set(repair.renounce)
    migrating = dict(state.migrating)
    importing = dict(state.importing)
    keys = {node_id: n for node_id, n in state.keys.items() if n}
    if repair.claim:
        owners.add(repair.owner)
        migrating.pop(repair.owner, None)
        importing.pop(repair.owner, None)
    # A slot may only be moved from its only owner, and not to itself.
    assert owners == {repair.owner}
    if repair.finish:
        assert repair.finish != repair.owner
        keys[repair.finish] = keys.get(repair.finish, 0) + keys.pop(repair.owner, 0)
        owners = {repair.finish}
        for flags in (migrating, importing):
            for node_id in (repair.owner, repair.finish):
                flags.pop(node_id, None)
    for node_id in repair.close:
        migrating.pop(node_id, None)
        importing.pop(node_id, None)
    for node_id in repair.collect:
        assert node_id != repair.last_owner
        keys[repair.last_owner] = keys.get(repair.last_owner, 0) + keys.pop(node_id)
    return SlotState(state.slot, tuple(owners), migrating, importing, keys)


@given(states())
def test_every_repair_ends_well(state: SlotState) -> None:
    repair = decide(state, MASTERS, choice="a")
    after = carry_out(state, repair)
    assert len(after.owners) == 1
    assert not {*after.migrating, *after.importing} & set(MASTERS)
    assert sum(after.keys.values()) == sum(state.keys.values())
    assert {node_id for node_id, n in after.keys.items() if n} <= set(after.owners)
    # And then nothing is wrong any more.
    assert decide(after, MASTERS, choice="a") is None
    # An undisputed owner is not robbed but by a move that had begun.
    if len(state.owners) == 1 and repair is not None:
        assert repair.owner == state.owners[0]
        assert not repair.claim
        if repair.finish:
            assert state.migrating[repair.owner] == repair.finish


def test_a_move_open_on_both_sides_goes_on() -> None:
    state = SlotState(7, ("a",), {"a": "b"}, {"b": "a"}, {"a": 3, "b": 2})
    assert decide(state, MASTERS) == Repair(7, "a move is unfinished", "a", finish="b")


def test_a_move_open_on_the_source_alone_is_closed_unless_keys_have_gone() -> None:
    empty = decide(SlotState(7, ("a",), {"a": "b"}, {}, {"a": 3}), MASTERS)
    assert empty is not None
    assert (empty.finish, empty.close) == ("", ("a",))
    begun = decide(SlotState(7, ("a",), {"a": "b"}, {}, {"a": 3, "b": 1}), MASTERS)
    assert begun is not None
    assert (begun.finish, begun.close) == ("b", ())


def test_a_move_open_on_the_target_alone_is_closed_and_keys_go_back() -> None:
    empty = decide(SlotState(7, ("a",), {}, {"b": "a"}, {"a": 3}), MASTERS)
    assert empty is not None
    assert (empty.collect, empty.close) == ((), ("b",))
    begun = decide(SlotState(7, ("a",), {}, {"b": "a"}, {"a": 3, "b": 1}), MASTERS)
    assert begun is not None
    assert (begun.owner, begun.collect, begun.close) == ("a", ("b",), ("b",))


def test_a_move_to_a_node_that_is_gone_is_closed() -> None:
    repair = decide(SlotState(7, ("a",), {"a": "d"}, {}, {"a": 3}), MASTERS)
    assert repair is not None
    assert (repair.finish, repair.close) == ("", ("a",))


def test_slots_of_nobody() -> None:
    nothing = decide(SlotState(7, (), {}, {}, {}), MASTERS, choice="c")
    assert nothing is not None
    assert (nothing.owner, nothing.claim) == ("c", True)
    keys = decide(SlotState(7, (), {}, {}, {"a": 1, "b": 5}), MASTERS, choice="c")
    assert keys is not None
    assert (keys.owner, keys.claim, keys.collect) == ("b", True, ("a",))
    opened = decide(SlotState(7, (), {}, {"b": "d"}, {}), MASTERS, choice="c")
    assert opened is not None
    assert (opened.owner, opened.close) == ("b", ("b",))
    assert decide(SlotState(7, (), {}, {}, {}), {}, choice="") is None


def test_of_two_owners_keys_decide_then_epochs() -> None:
    keys = decide(SlotState(7, ("a", "b"), {}, {}, {"a": 1}), MASTERS)
    assert keys is not None
    assert (keys.owner, keys.renounce) == ("a", ("b",))
    epochs = decide(SlotState(7, ("a", "b"), {}, {}, {}), MASTERS)
    assert epochs is not None
    assert (epochs.owner, epochs.renounce) == ("b", ("a",))


def test_uncovered_slots_go_to_who_has_few() -> None:
    cluster = picture(
        Node(1, range(8192), epoch=1),
        Node(2, range(8192, 16380), epoch=2),
        Node(3, (), epoch=3),
        Node(4, (), master=1, epoch=1),
    )
    slots = slots_to_examine(cluster)
    assert slots == [16380, 16381, 16382, 16383]
    repairs = plan_repairs(cluster, slots, {16381: {node_id(2): 4}})
    assert [(r.slot, r.owner) for r in repairs] == [
        (16380, node_id(3)),
        (16381, node_id(2)),
        (16382, node_id(3)),
        (16383, node_id(3)),
    ]
