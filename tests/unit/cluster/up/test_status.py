"""What the table of `sentrio up` says, and which changes are events."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from cluster.tool.connection import Address
from cluster.tool.errors import Refused
from cluster.up.board import Board
from cluster.up.command import Shape, claim_folder, node_words
from cluster.up.processes import START_NAME, describe_end, start
from cluster.up.status import LINK_DOWN, UNREACHABLE, Row, compare, make_rows, parse_info
from tests.unit.cluster.tool.drawn import Node, node_id, picture

ONE, TWO, THREE = (Address("127.0.0.1", 7000 + n) for n in (1, 2, 3))
INFOS = {
    node_id(1): {"instantaneous_ops_per_sec": "12", "master_repl_offset": "500"},
    node_id(2): {"instantaneous_ops_per_sec": "3"},
    node_id(3): {"master_link_status": "up", "slave_repl_offset": "460"},
}


def test_rows() -> None:
    cluster = picture(
        Node(1, range(8192), keys=7), Node(2, range(8192, 16384)), Node(3, master=1, keys=6)
    )
    rows = make_rows(cluster, INFOS, {}, [ONE, TWO, THREE])
    assert rows == [
        Row(ONE, "master", slots=8192, which="0-8191", keys=7, ops=12),
        Row(THREE, "replica", master="127.0.0.1:7001", keys=6, lag=40),
        Row(TWO, "master", slots=8192, which="8192-16383", ops=3),
    ]
    down = make_rows(cluster, {**INFOS, node_id(3): {"master_link_status": "down"}}, {}, [])
    assert (down[1].state, down[1].lag) == (LINK_DOWN, None)
    cluster.members[node_id(2)].state = "fail"
    assert make_rows(cluster, INFOS, {}, [])[2].state == "cluster is fail"


def test_rows_of_what_does_not_answer() -> None:
    rows = make_rows(None, {}, {TWO: "killed by SIGKILL"}, [ONE])
    assert rows == [Row(ONE, state=UNREACHABLE), Row(TWO, state="killed by SIGKILL")]


def test_events() -> None:
    before = [
        Row(ONE, "master", slots=10, keys=5),
        Row(TWO, "replica", master="127.0.0.1:7001", lag=3),
    ]
    quiet = [replace(before[0], keys=9, ops=4), replace(before[1], lag=0)]
    assert compare(before, quiet) == []
    assert compare(before, [Row(ONE, state="killed by SIGKILL"), before[1]]) == []
    after = [Row(TWO, "master", slots=10), Row(THREE, "replica", master="127.0.0.1:7002")]
    assert compare(before, after) == [
        "127.0.0.1:7002 is a master of 10 slots now",
        "127.0.0.1:7003 is a member now: replica of 127.0.0.1:7002",
        "127.0.0.1:7001 is no member any more",
    ]
    moved = [replace(before[0], slots=4), replace(before[1], master="127.0.0.1:7003")]
    assert compare(before, moved) == [
        "127.0.0.1:7001 has 4 slots now, 10 before",
        "127.0.0.1:7002 is a replica of 127.0.0.1:7003 now",
    ]
    sentinel = Row(THREE, "sentinel", which="guards 3 shards")
    assert compare(before, [*before, sentinel]) == []
    assert compare([sentinel], [replace(sentinel, role="", state=UNREACHABLE)]) == [
        "127.0.0.1:7003: unreachable"
    ]
    assert compare(before, [replace(before[0], state="cluster is fail"), before[1]]) == [
        "127.0.0.1:7001: cluster is fail"
    ]


def test_info() -> None:
    assert parse_info(b"# Server\r\na:1\r\nb:x:y\r\n") == {"a": "1", "b": "x:y"}
    assert parse_info(None) == {}


def test_ends() -> None:
    ends = [describe_end(code) for code in (0, 3, -9, -120)]
    assert ends == [
        "ended with exit code 0",
        "ended with exit code 3",
        "killed by SIGKILL",
        "killed by signal 120",
    ]


def test_the_board() -> None:
    rows = [Row(ONE, "master", slots=10, which="0-9", keys=5, ops=7), Row(TWO, "replica", lag=3)]
    terminal = io.StringIO()
    with Board(Console(file=terminal, force_terminal=True, width=100)) as board:
        board.tell("something happens")
        board.show(rows, "two nodes")
    shown = terminal.getvalue()
    assert "something happens" in shown
    assert all(word in shown for word in ("two nodes", "127.0.0.1:7001", "0-9", "3 B"))
    plain = io.StringIO()
    with Board(Console(file=plain, width=100)) as board:
        board.tell("something happens")
        board.show(rows, "two nodes")
    assert plain.getvalue().count("\n") == 1


def test_a_folder_is_one_cluster_s(tmp_path: Path) -> None:
    shape = Shape(3, 1, 7000)
    assert [address.port for address in shape.addresses] == list(range(7000, 7006))
    assert str(shape) == "3 shards with 1 replica each"
    with (
        claim_folder(tmp_path / "new", shape),
        pytest.raises(Refused, match="in use"),
        claim_folder(tmp_path / "new", shape),
    ):
        pass
    with claim_folder(tmp_path / "new", shape):
        pass
    with (
        pytest.raises(Refused, match="--shards 3 --replicas 1 --port 7000"),
        claim_folder(tmp_path / "new", Shape(4, 1, 7000)),
    ):
        pass
    (tmp_path / "new" / "up.json").write_text("{")
    with pytest.raises(Refused, match="cannot be read"), claim_folder(tmp_path / "new", shape):
        pass


def test_directives_of_the_command_line_win() -> None:
    words = node_words(["node"], ONE, True, ["--appendonly", "no"])
    assert words[:3] == ["node", "--port", "7001"]
    assert words[-2:] == ["--appendonly", "no"]


def test_whether_replicas_take_over_by_themselves() -> None:
    for guarded, value in ((True, "yes"), (False, "no")):
        words = node_words(["node"], ONE, guarded, [])
        assert words[words.index("--cluster-replica-no-failover") + 1] == value


def test_a_process_is_started_again_when_that_is_asked_for(tmp_path: Path) -> None:
    process = start(["sh", "-c", "echo run >> runs"], tmp_path, Address("127.0.0.1", 7000))
    process.handle.wait()
    assert process.look()
    assert not process.heed_request()
    (tmp_path / START_NAME).touch()
    assert process.heed_request()
    assert not process.ended
    process.handle.wait()
    assert (tmp_path / "runs").read_text() == "run\nrun\n"
    # One that has not ended is left alone, now and later.
    (tmp_path / START_NAME).touch()
    assert not process.heed_request()
    assert process.look()
    assert not process.heed_request()
