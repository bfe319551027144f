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

MOST_REPLACED: Final = 100


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

    Whoever waits for the disk, in a thread, holds up nobody who does not.
    """

    def __init__(self, path: str, files: Files) -> None:
        self.path = str(Path(path).absolute())
        self._files = files
        # Held while the file is replaced, and not while it is written or flushed.
        self._lock = threading.Lock()
        self._descriptor = -1
        # The numbers of the newest content that is in the file; of the one that the disk has as
        # well; and of the one whose name the disk has, too.
        self._saved = 0
        self._synced = 0
        self._flushed = 0
        # Closing a file that has lost its name frees its blocks, which takes longer than writing
        # the next one: left to who waits for the disk anyway.
        self._replaced: list[int] = []

    @property
    def newest(self) -> int:
        """The number of the newest content; 0 if nothing has been saved since the start."""
        return self._saved

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
        return self._files.read_all(self.path)

    def save(self, content: bytes, number: int, flush: bool = True) -> None:
        """Write content ``number``, unless a newer one has been written. Raises OSError.

        Without ``flush`` it survives the end of the process, and not yet that of the machine.
        """
        if number > self._saved:
            self._write(content, number, flush)
        if flush and number > self._flushed:
            self._flush()

    def _write(self, content: bytes, number: int, flush: bool) -> None:
        aside = f"{self.path}.tmp-{os.getpid()}-{number}"
        files = self._files
        descriptor = files.create(aside)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            files.write_all(descriptor, content)
            if flush:
                files.fsync(descriptor)
            with self._lock:
                if self._saved < number:
                    files.rename(aside, self.path)
                    descriptor, self._descriptor = self._descriptor, descriptor
                    self._saved = number
                    if flush:
                        self._synced = number
                    aside = ""
        finally:
            if aside:
                with contextlib.suppress(OSError):
                    files.remove(aside)
            self._let_go(descriptor)

    def _let_go(self, descriptor: int) -> None:
        """Close a file that has no name any more, later."""
        with self._lock:
            if descriptor >= 0:
                self._replaced.append(descriptor)
            surplus = self._replaced.pop() if len(self._replaced) > MOST_REPLACED else -1
        if surplus >= 0:
            self._files.close(surplus)

    def _flush(self) -> None:
        """What is in the file may be newer than what the caller has written, and not on disk."""
        with self._lock:
            number = self._saved
            replaced = self._replaced
            self._replaced = []
            # A copy, since the file may be replaced meanwhile.
            copy = os.dup(self._descriptor) if self._synced < number else -1
        if copy >= 0:
            replaced.append(copy)
        try:
            if copy >= 0:
                self._files.fsync(copy)
            self._files.sync_folder(str(Path(self.path).parent))
        finally:
            for descriptor in replaced:
                self._files.close(descriptor)
        with self._lock:
            self._synced = max(self._synced, number)
            self._flushed = max(self._flushed, number)

    def close(self) -> None:
        """Give the file free."""
        while self._replaced:
            self._files.close(self._replaced.pop())
        if self._descriptor >= 0:
            self._files.close(self._descriptor)
            self._descriptor = -1
