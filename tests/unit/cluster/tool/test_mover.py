"""What errors mean for a move, how figures look, and what is remembered of a plan."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.slots import key_slot
from cluster.tool.display import format_seconds
from cluster.tool.journal import Journal
from cluster.tool.mover import BUSY_KEY, FATAL, MOVED_ON, PASSING, classify, successor
from cluster.tool.planning import Move
from tests.unit.cluster.tool.drawn import Node, node_id, picture


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("BUSYKEY Target key name already exists.", BUSY_KEY),
        (
            "ERR Target instance replied with error: BUSYKEY Target key name already exists.",
            BUSY_KEY,
        ),
        ("IOERR error or timeout reading to target instance", PASSING),
        ("ERR Target instance replied with error: LOADING Redis is loading", PASSING),
        ("TRYAGAIN Multiple keys request during rehashing of slot", PASSING),
        ("CLUSTERDOWN The cluster is down", PASSING),
        ("ERR Target instance replied with error: MOVED 5 127.0.0.1:7000", MOVED_ON),
        ("READONLY You can't write against a read only replica.", MOVED_ON),
        ("ERR I'm not the owner of hash slot 5", MOVED_ON),
        ("ERR Please use SETSLOT only with masters.", MOVED_ON),
        ("ERR Target instance replied with error: OOM command not allowed", FATAL),
        ("ERR Target instance replied with error: NOAUTH Authentication required.", FATAL),
    ],
)
def test_errors(text: str, kind: str) -> None:
    assert classify(text) == kind


def test_a_promoted_replica_takes_the_place_of_its_master() -> None:
    cluster = picture(Node(1, master=2), Node(2, range(16384)))
    assert successor(cluster, node_id(1)) == node_id(2)
    assert successor(cluster, node_id(2)) == node_id(2)
    assert successor(cluster, node_id(3)) == ""


def test_seconds() -> None:
    texts = [format_seconds(s) for s in (0.0123, 5.04, 59.94, 245, 3600 * 2 + 190)]
    assert texts == ["12 ms", "5.0 s", "59.9 s", "4 min 5 s", "2 h 3 min"]


def test_slots_of_keys() -> None:
    assert key_slot(b"123456789") == 0x31C3 % 16384
    assert key_slot(b"{user1000}.following") == key_slot(b"{user1000}.followers")
    assert key_slot(b"foo{}{bar}") != key_slot(b"bar")
    assert key_slot(b"foo{{bar}}zap") == key_slot(b"{bar")


def test_a_plan_is_kept_until_it_is_done(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "state", ["b", "a"])
    assert journal.load() is None
    moves = [Move(1, "a", "b"), Move(2, "a", "b")]
    journal.save({"count": 2}, "today", moves)
    again = Journal(tmp_path / "state", ["a", "b"]).load()
    assert again is not None
    assert (again.request, again.begun, again.moves) == ({"count": 2}, "today", moves)
    assert Journal(tmp_path / "state", ["a", "c"]).load() is None
    journal.path.write_text("{")
    assert journal.load() is None
    journal.clear()
    journal.clear()
    assert not journal.path.exists()
