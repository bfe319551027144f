"""Messages that must not leave before what they tell of is saved."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from node.save_barrier import SaveBarrier


@given(st.lists(st.sampled_from(["change", "saved", "send"]), max_size=60))
def test_a_message_leaves_as_soon_as_all_changes_before_it_are_saved(deeds: list[str]) -> None:
    changes = saved = 0
    sent: list[int] = []  # for each message, how many changes there were
    posted: list[int] = []
    barrier = SaveBarrier(posted.append)
    for deed in deeds:
        if deed == "change":
            changes += 1
            barrier.close(changes)
        elif deed == "saved" and saved < changes:
            saved += 1
            barrier.open(saved)
        elif deed == "send":
            sent.append(changes)
            barrier.send(changes)
        assert posted == [number for number in sent if number <= saved]


def test_messages_of_nobody_are_forgotten() -> None:
    posted: list[str] = []
    barrier = SaveBarrier(posted.append)
    barrier.close(1)
    for message in ("a", "b", "a"):
        barrier.send(message)
    barrier.drop(lambda message: message == "a")
    barrier.open(1)
    assert posted == ["b"]
