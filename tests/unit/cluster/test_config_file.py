"""The cluster's file: what is written is read again, what is damaged is refused."""

from __future__ import annotations

import random
import shutil
import threading
from pathlib import Path

import pytest

from cluster.config_file import ConfigFile, Corrupt, Locked, format_state, parse_state
from cluster.state import FAIL, MASTER, MYSELF, PFAIL, Node, State, draw_name
from node.files import SYSTEM_FILES, Files

NOW = 1_700_000_000_000


def make_state(seed: int) -> State:
    """A cluster with whatever can be in the file."""
    draw = random.Random(seed)
    state = State(Node(draw_name(draw), MYSELF | MASTER, NOW))
    for _ in range(draw.randrange(1, 8)):
        state.add(Node(draw_name(draw), MASTER, NOW))
    nodes = list(state.nodes.values())
    for i, node in enumerate(nodes):
        node.ip, node.port, node.bus_port = f"10.0.0.{i}", 7000 + i, 17000 + i
        node.shard = draw_name(draw)
        node.hostname = draw.choice(["", "node.example"])
        node.human_name = draw.choice(["", "eve"])
        node.config_epoch = draw.randrange(100)
        node.flags |= draw.choice([0, FAIL, PFAIL]) if node is not state.myself else 0
    for node in nodes[len(nodes) // 2 + 1 :]:
        state.set_master(node, nodes[draw.randrange(len(nodes) // 2 + 1)])
        node.config_epoch = 0
    masters = state.masters()
    for slot in range(16384):
        if draw.random() < 0.9:
            state.assign(slot, masters[slot * len(masters) // 16384])
    if state.myself.is_master:
        state.migrating[5] = masters[-1]
        state.importing[16383] = masters[0]
    state.current_epoch = 200
    state.last_vote_epoch = 150
    return state


@pytest.mark.parametrize("seed", range(20))
def test_round_trip(seed: int) -> None:
    state = make_state(seed)
    content = format_state(state)
    again = parse_state(content, NOW)
    again.check()
    assert format_state(again) == content
    assert again.myself.name == state.myself.name


def test_a_file_of_redis_7_0() -> None:
    """Written by redis-server 7.0.15, which knows no shards."""
    mine, other, replica = "a" * 40, "b" * 40, "c" * 40
    content = (
        f"{mine} 127.0.0.1:7001@17001 myself,master - 0 0 1 connected 0-8191 [5->-{other}]\n"
        f"{other} 127.0.0.1:7002@17002,host master,fail? - 1795782116920 1795782116104 2 "
        "disconnected 8192-16382\n"
        f"{replica} :0@0 slave,noaddr {other} 0 1795782116104 2 disconnected\n"
        "vars currentEpoch 3 lastVoteEpoch 2\n"
    )
    state = parse_state(content.encode(), NOW)
    state.check()
    assert (state.current_epoch, state.last_vote_epoch) == (3, 2)
    assert state.nodes[other].hostname == "host"
    assert state.nodes[other].ping_sent == NOW
    assert state.nodes[replica].master is state.nodes[other]
    assert state.migrating == {5: state.nodes[other]}
    assert state.owners[16383] is None


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (("myself,master", "master"), "no line is about this node"),
        (("myself,master", "myself,boss"), "line 1: the unknown flag 'boss'"),
        ((" 0-16383", " 0-16384"), "line 1: the impossible slots '0-16384'"),
        ((" 0-16383", " 0-16383 7"), "line 1: slot 7 that another node has"),
        ((" - 0", f" {'d' * 40} 0"), "line 1: a master that there is not"),
        ((" connected 0-16383", ""), "line 1: fewer than eight fields"),
        (("aaaa ", "aaa "), "line 1: a name"),
        (("127.0.0.1:7001@", "127.0.0.1:x@"), "line 1: invalid literal"),
    ],
)
def test_damage(damage: tuple[str, str], why: str) -> None:
    line = f"{'a' * 40} 127.0.0.1:7001@17001 myself,master - 0 0 1 connected 0-16383\n"
    assert damage[0] in line
    with pytest.raises(Corrupt) as caught:
        parse_state(line.replace(*damage).encode(), NOW)
    assert why in str(caught.value)


def test_the_file_has_one_user(tmp_path: Path) -> None:
    path = str(tmp_path / "nodes.conf")
    first = ConfigFile(path, SYSTEM_FILES)
    assert first.open() == b""
    with pytest.raises(Locked):
        ConfigFile(path, SYSTEM_FILES).open()
    first.save(b"content", 1)
    # The lock is on the new file, too.
    with pytest.raises(Locked):
        ConfigFile(path, SYSTEM_FILES).open()
    first.close()
    second = ConfigFile(path, SYSTEM_FILES)
    assert second.open() == b"content"
    second.close()


def test_an_older_content_does_not_replace_a_newer_one(tmp_path: Path) -> None:
    file = ConfigFile(str(tmp_path / "nodes.conf"), SYSTEM_FILES)
    file.open()
    file.save(b"newer", 2)
    file.save(b"older", 1)
    assert (tmp_path / "nodes.conf").read_bytes() == b"newer"
    file.close()


class FailingFiles(Files):
    """A disk that takes no flush."""

    def fsync(self, descriptor: int) -> None:
        raise OSError(5, "Input/output error")


def test_a_failed_save_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "nodes.conf"
    file = ConfigFile(str(path), SYSTEM_FILES)
    file.open()
    file.save(b"old", 1)
    file.close()
    failing = ConfigFile(str(path), FailingFiles())
    failing.open()
    with pytest.raises(OSError, match="Input/output"):
        failing.save(b"new", 2)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["nodes.conf"]
    failing.close()


class CountingFiles(Files):
    """Counts what waits for the disk."""

    __slots__ = ("flushes",)

    def __init__(self) -> None:
        self.flushes = 0

    def fsync(self, descriptor: int) -> None:
        self.flushes += 1
        super().fsync(descriptor)


def read_again(path: Path) -> bytes:
    """What a node would start from."""
    # The process that has had it is gone, and with it its lock.
    copy = path.with_name("copy")
    for suffix in ("", ".notes"):
        if Path(f"{path}{suffix}").exists():
            shutil.copy(f"{path}{suffix}", f"{copy}{suffix}")
    file = ConfigFile(str(copy), SYSTEM_FILES)
    content = file.open()
    file.close()
    for entry in path.parent.glob("copy*"):
        entry.unlink()
    return content


def test_what_is_noted_waits_for_no_disk_and_is_there_after_a_crash(tmp_path: Path) -> None:
    files = CountingFiles()
    path = tmp_path / "nodes.conf"
    file = ConfigFile(str(path), files)
    file.open()
    file.save(b"one", 1)
    flushed = files.flushes
    for number in range(2, 6):
        file.save(b"content %d" % number, number, flush=False)
        assert read_again(path) == b"content %d" % number
    assert files.flushes == flushed
    file.save(b"content 4", 4)  # from a thread that comes late
    assert path.read_bytes() == b"content 4"
    assert read_again(path) == b"content 5"
    file.save(b"content 5 again", 6)
    assert read_again(path) == b"content 5 again"
    assert [entry.name for entry in tmp_path.iterdir()] == ["nodes.conf"]
    file.close()


def test_notes_of_several_runs(tmp_path: Path) -> None:
    path = tmp_path / "nodes.conf"
    for run in range(4):
        file = ConfigFile(str(path), SYSTEM_FILES)
        expected = f"{run - 1} 3".encode() if run else b""
        assert file.open() == expected
        if not run:
            file.save(b"first", 1)
        for number in range(2, 4):
            file.save(f"{run} {number}".encode(), number, flush=False)
        file.close()


@pytest.mark.parametrize("damage", ["cut off", "other file", "no file", "other content", "junk"])
def test_a_note_that_does_not_count(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "nodes.conf"
    file = ConfigFile(str(path), SYSTEM_FILES)
    file.open()
    file.save(b"flushed", 1)
    file.save(b"noted", 2, flush=False)
    file.close()
    notes = tmp_path / "nodes.conf.notes"
    content = notes.read_bytes().lstrip(b"\0")
    expected = b"flushed"
    if damage == "cut off":
        notes.write_bytes(content[:-1])
    elif damage == "other content":
        notes.write_bytes(content.replace(b"noted", b"voted"))
    elif damage == "junk":
        notes.write_bytes(b"\xff 1 2 3 4\n")
    elif damage == "other file":
        path.write_bytes(b"of another server")
        expected = b"of another server"
    else:
        path.unlink()
        expected = b""
    file = ConfigFile(str(path), SYSTEM_FILES)
    assert file.open() == expected
    file.close()


def test_the_note_before_counts_where_one_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "nodes.conf"
    file = ConfigFile(str(path), SYSTEM_FILES)
    file.open()
    file.save(b"flushed", 1)
    file.save(b"noted", 2, flush=False)
    file.save(b"next", 3, flush=False)
    file.close()
    notes = tmp_path / "nodes.conf.notes"
    content = notes.read_bytes()
    notes.write_bytes(content.replace(b"next", b"ne\0\0"))
    file = ConfigFile(str(path), SYSTEM_FILES)
    assert file.open() == b"noted"
    file.close()


class SlowFiles(Files):
    """A disk whose flushes take until they are let go on."""

    __slots__ = ("begun", "going_on")

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.going_on = threading.Event()

    def fsync(self, descriptor: int) -> None:
        self.begun.set()
        assert self.going_on.wait(20)
        super().fsync(descriptor)


def test_who_waits_for_the_disk_holds_nobody_up(tmp_path: Path) -> None:
    files = SlowFiles()
    path = tmp_path / "nodes.conf"
    file = ConfigFile(str(path), files)
    file.open()
    thread = threading.Thread(target=file.save, args=(b"two", 2))
    thread.start()
    assert files.begun.wait(20)
    file.save(b"three", 3, flush=False)
    files.going_on.set()
    thread.join()
    assert path.read_bytes() == b"two"
    assert read_again(path) == b"three"
    file.close()
