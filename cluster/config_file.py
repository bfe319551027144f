"""The cluster's file (``cluster-config-file``): what a node knows, kept over a restart.

The format is Redis's: a line for each node as in CLUSTER NODES (:mod:`.description`), then
``vars currentEpoch N lastVoteEpoch N``. The file is locked while the node runs, so that no two
nodes use the same; it is written aside, flushed, locked, renamed, and its folder flushed, so
whoever holds the name holds the lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from zlib import crc32

from cluster.description import describe_nodes
from cluster.message import NAME_LENGTH
from cluster.slots import SLOTS
from cluster.state import (
    EXTENSIONS,
    FAIL,
    HANDSHAKE,
    MASTER,
    MYSELF,
    NOADDR,
    NOFAILOVER,
    PFAIL,
    REPLICA,
    Node,
    State,
)
from node.files import Files

FLAGS: Final = {
    "myself": MYSELF,
    "master": MASTER,
    "slave": REPLICA,
    "fail?": PFAIL,
    "fail": FAIL,
    "handshake": HANDSHAKE,
    "noaddr": NOADDR,
    "nofailover": NOFAILOVER,
    "noflags": 0,
}

NOTE_SIZE: Final = 1 << 20
LARGEST_NOTE: Final = NOTE_SIZE - 100


class Corrupt(ValueError):
    """The file is none of a cluster; the text names the line and the reason."""


class Locked(Exception):
    """Another node uses the file."""


def format_state(state: State) -> bytes:
    """The content of the file."""
    text = describe_nodes(state, aux=True)
    text += f"vars currentEpoch {state.current_epoch} lastVoteEpoch {state.last_vote_epoch}\n"
    return text.encode()


def parse_state(content: bytes, now: int) -> State:
    """What the file says. Raises Corrupt."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise Corrupt("it is no text") from None
    lines = [line.split() for line in text.splitlines()]
    rows = [(number, words) for number, words in enumerate(lines, 1) if words]
    nodes: dict[str, Node] = {}
    myself: Node | None = None
    for number, words in rows:
        if words[0] == "vars":
            continue
        with _about(number):
            node = _parse_node(words, now)
            if node.name in nodes:
                raise ValueError("a node that there is already")
            nodes[node.name] = node
            if node.flags & MYSELF:
                if myself is not None:
                    raise ValueError("a second node that is this one")
                myself = node
    if myself is None:
        raise Corrupt("no line is about this node")
    state = State(myself)
    state.nodes = nodes
    for number, words in rows:
        with _about(number):
            if words[0] == "vars":
                _parse_vars(state, words)
            else:
                _parse_relations(state, nodes[words[0]], words, nodes)
    for node in nodes.values():
        if node.is_replica and node.master is not None:
            node.config_epoch = 0  # what the line tells is that of its master
    return state


@contextlib.contextmanager
def _about(number: int) -> Iterator[None]:
    """Say in which line it was."""
    try:
        yield
    except (ValueError, IndexError) as error:
        raise Corrupt(f"line {number}: {error}") from None


def _parse_node(words: list[str], now: int) -> Node:
    if len(words) < 8:
        raise ValueError("fewer than eight fields")
    name, address, flags = words[:3]
    if len(name) != NAME_LENGTH or not (name.isascii() and name.isalnum()):
        raise ValueError("a name that is not 40 letters and digits")
    bits = 0
    for word in flags.split(","):
        if word not in FLAGS:
            raise ValueError(f"the unknown flag '{word}'")
        bits |= FLAGS[word]
    node = Node(name, bits & ~EXTENSIONS, now)
    _parse_address(node, address)
    if bits & FAIL:
        node.failed_at = now
    # Times of another run say nothing.
    if int(words[4]):
        node.ping_sent = now
    if int(words[5]):
        node.pong_received = now
    node.config_epoch = int(words[6])
    return node


def _parse_address(node: Node, text: str) -> None:
    address, *aux = text.split(",")
    host, _, ports = address.rpartition(":")
    port, _, bus_port = ports.partition("@")
    node.ip = host
    node.port = int(port)
    node.bus_port = int(bus_port) if bus_port else node.port + 10000
    if aux:
        node.hostname = aux[0]
    for field in aux[1:]:
        key, equals, value = field.partition("=")
        if not equals:
            raise ValueError(f"the field '{field}' without a value")
        if key == "shard-id":
            node.shard = value
        elif key == "nodename":
            node.human_name = value
        elif key == "tls-port":
            node.tls_port = int(value)
        elif key != "tcp-port":
            raise ValueError(f"the unknown field '{key}'")


def _parse_relations(state: State, node: Node, words: list[str], nodes: dict[str, Node]) -> None:
    """Whose replica a node is, and its slots."""
    if words[3] != "-":
        master = nodes.get(words[3])
        if master is None:
            raise ValueError("a master that there is not")
        if master is node:
            raise ValueError("a node that is its own master")
        shard = node.shard
        state.set_master(node, master)
        if not master.shard:
            master.shard = shard
            node.shard = shard
    for word in words[8:]:
        if word.startswith("["):
            _parse_open_slot(state, word, nodes)
            continue
        first, dash, last = word.partition("-")
        start = int(first)
        stop = int(last) if dash else start
        if not 0 <= start <= stop < SLOTS:
            raise ValueError(f"the impossible slots '{word}'")
        for slot in range(start, stop + 1):
            if state.owners[slot] is not None:
                raise ValueError(f"slot {slot} that another node has")
            state.assign(slot, node)


def _parse_open_slot(state: State, word: str, nodes: dict[str, Node]) -> None:
    """``[slot->-node]`` or ``[slot-<-node]``."""
    for arrow, table in (("->-", state.migrating), ("-<-", state.importing)):
        number, found, name = word.strip("[]").partition(arrow)
        if found:
            slot = int(number)
            if not 0 <= slot < SLOTS or name not in nodes:
                raise ValueError(f"the impossible slot '{word}'")
            table[slot] = nodes[name]
            return
    raise ValueError(f"the impossible slot '{word}'")


def _parse_vars(state: State, words: list[str]) -> None:
    values = dict(zip(words[1::2], words[2::2], strict=True))
    state.current_epoch = max(state.current_epoch, int(values.get("currentEpoch", 0)))
    state.last_vote_epoch = int(values.get("lastVoteEpoch", 0))
    state.current_epoch = max(state.current_epoch, state.largest_epoch)


class ConfigFile:
    """The file of a running node. Saves may come from several threads; the newest wins.

    A reshard changes thousands of slots in a row, each of which a client waits for. Such a change
    is *noted* at first: what is noted outlives the process, in a file beside, ``.notes``, that is
    written over and over and that nobody waits for the disk with; a moment later the content gets
    where it belongs, and the note goes. A node that finds a note at its start takes it for the
    content, if it is whole and the file is still the one that it was a note to.
    """

    def __init__(self, path: str, files: Files) -> None:
        self.path = str(Path(path).absolute())
        self._files = files
        # Held while the file or the note is replaced, and not while the disk is waited for.
        self._lock = threading.Lock()
        self._descriptor = -1
        self._saved = 0  # the number of the content in the file
        self._base = 0  # its checksum
        self._notes_path = f"{self.path}.notes"
        self._notes = -1
        self._noted = 0  # the number of what is noted
        self._note = b""
        self._sequence = 0  # of notes, those of former runs included

    @property
    def is_late(self) -> bool:
        """Whether what is noted has still to get into the file."""
        return self._noted > self._saved

    @property
    def newest(self) -> int:
        """The number of the newest content; 0 if nothing has been saved since the start."""
        return max(self._saved, self._noted)

    def open(self) -> bytes:
        """Lock the file, made where there is none, and read it. Raises Locked, OSError."""
        while True:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(descriptor)
                raise Locked from None
            # Another node may have put a new file in place before we had the lock on the old one.
            with contextlib.suppress(FileNotFoundError):
                if os.fstat(descriptor).st_ino == Path(self.path).stat().st_ino:
                    break
            os.close(descriptor)
        self._descriptor = descriptor
        content = self._files.read_all(self.path)
        self._base = crc32(content)
        return self._read_note() or content

    def save(self, content: bytes, number: int, flush: bool = True) -> None:
        """Write content ``number``, unless a newer one has been written. Raises OSError.

        Without ``flush`` it survives the end of the process, and not yet that of the machine.
        """
        if flush or len(content) > LARGEST_NOTE:
            self._write(content, number)
            return
        with self._lock:
            if self._notes < 0:
                self._notes = self._files.create(self._notes_path)
            self._noted = number
            self._note = content
            self._put_note(self._base)

    def _write(self, content: bytes, number: int) -> None:
        files = self._files
        aside = f"{self.path}.tmp-{os.getpid()}-{number}"
        descriptor = files.create(aside)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            files.write_all(descriptor, content)
            files.fsync(descriptor)
            with self._lock:
                if self._saved < number:
                    base = crc32(content)
                    if self._noted > number:
                        self._put_note(base)
                    files.rename(aside, self.path)
                    aside = ""
                    descriptor, self._descriptor = self._descriptor, descriptor
                    self._saved = number
                    self._base = base
                    self._drop_note()
        finally:
            if aside:
                with contextlib.suppress(OSError):
                    files.remove(aside)
            if descriptor >= 0:
                files.close(descriptor)
        # For a content that another thread has put in place just now, too.
        files.sync_folder(str(Path(self.path).parent))

    # Notes.

    def _put_note(self, base: int) -> None:
        """Note what is newest; it is one to the file as it is, or to one with that checksum.

        The one before stays as it is: this one may be cut off by the end of the process.
        """
        self._sequence += 1
        sums = (self._base, base, crc32(self._note))
        head = b"%d %d %d %d %d\n" % (self._sequence, len(self._note), *sums)
        place = self._sequence % 2 * NOTE_SIZE
        self._files.overwrite(self._notes, head + self._note, place)

    def _drop_note(self) -> None:
        """The file has what was noted."""
        if self._notes >= 0 and self._noted <= self._saved:
            self._files.close(self._notes)
            self._notes = -1
            with contextlib.suppress(OSError):
                self._files.remove(self._notes_path)

    def _read_note(self) -> bytes:
        """The content that a run before this one has noted; empty if there is none."""
        try:
            data = self._files.read_all(self._notes_path)
        except FileNotFoundError:
            return b""
        found = b""
        for place in (0, NOTE_SIZE):
            head, _, rest = data[place : place + NOTE_SIZE].partition(b"\n")
            words = head.split()
            if len(words) != 5 or not all(word.isdigit() for word in words):
                continue
            sequence, length, base, other, checksum = map(int, words)
            content = rest[:length]
            whole = len(content) == length and crc32(content) == checksum
            if whole and self._base in (base, other) and sequence > self._sequence:
                self._sequence = sequence
                found = content
        return found

    def close(self) -> None:
        """Give the file free."""
        for descriptor in (self._notes, self._descriptor):
            if descriptor >= 0:
                self._files.close(descriptor)
        self._notes = self._descriptor = -1
