"""A replica as its master sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from node.session import Session

if TYPE_CHECKING:
    from node.replication.full_sync import FullSync

# How far a replica has come. Until it asks for the history it is a client like others.
STRANGER: Final = 0
WAITING: Final = 1  # for a snapshot to begin
AWAITING: Final = 2  # the snapshot is being made (or is streamed to it at the same time)
RECEIVING: Final = 3  # the snapshot's file
SILENT: Final = 4  # it has a streamed snapshot: the stream begins with its first word
CATCHING_UP: Final = 5  # it is sent what the backlog has
ONLINE: Final = 6  # it is sent what is new
STATE_NAMES: Final = (
    *("stranger", "wait_bgsave", "wait_bgsave", "send_bulk"),
    *("online", "online", "online"),
)


class Needs:
    """What a replica wants the snapshot to have (``REPLCONF rdb-filter-only``)."""

    __slots__ = ("data", "functions")

    def __init__(self, data: bool = True, functions: bool = True) -> None:
        self.data = data
        self.functions = functions

    def same(self, other: Needs) -> bool:
        """Whether one snapshot serves both."""
        return self.data == other.data and self.functions == other.functions

    @property
    def filtered(self) -> bool:
        """Whether anything is left out."""
        return not (self.data and self.functions)


class Replica:
    """A client that gets, or is going to get, the stream.

    ``position`` is how much of the history it has been sent, ``offset`` how much it has said that
    it has (-1: nothing), ``logged`` how much of that is in its append-only file for good. ``port``
    and ``address`` are as it announces them. ``old``: it has asked by SYNC, is told no offset and
    tells none.
    """

    __slots__ = (
        "session",
        "state",
        "position",
        "offset",
        "logged",
        "port",
        "address",
        "takes_mark",
        "takes_id",
        "old",
        "snapshot_only",
        "needs",
        "since",
        "sync",
        "loaded",
        "file",
        "file_left",
    )

    def __init__(self, session: Session) -> None:
        self.session = session
        self.state = STRANGER
        self.position = 0
        self.offset = -1
        self.logged = -1
        self.port = 0
        self.address = ""
        self.takes_mark = False  # capa eof
        self.takes_id = False  # capa psync2
        self.old = False
        self.snapshot_only = False
        self.needs = Needs()
        self.since = 0  # when it asked for all data, Unix milliseconds
        self.sync: FullSync | None = None
        # It has spoken while a snapshot was streamed to it, which it does once it has loaded that.
        self.loaded = False
        # The descriptor of the snapshot that it is sent, and how much of that is left.
        self.file = -1
        self.file_left = 0

    @property
    def name(self) -> str:
        """What the log calls it."""
        if self.session.unix_socket:
            return f"client id #{self.session.id}"
        return f"{self.host}:{self.port or '<unknown-replica-port>'}"

    @property
    def host(self) -> str:
        """Where it says that it is, or else where it comes from."""
        if self.address:
            return self.address
        return self.session.address.rpartition(b":")[0].decode(errors="replace").strip("[]")

    def is_at(self, host: str, port: int) -> bool:
        """Whether that is where it can be reached."""
        return self.port == port and self.host.lower() == host.lower()

    @property
    def streaming(self) -> bool:
        """Whether it has all data, and gets the stream or is about to."""
        return self.state >= SILENT

    @property
    def unsent(self) -> int:
        """Bytes that are queued for it and that its socket has not taken."""
        return self.session.out_size + sum(map(len, self.session.out))

    def push(self, data: bytes) -> None:
        """Queue bytes for it."""
        session = self.session
        session.out.append(data)
        if session.wake is not None:
            session.wake()

    def kill(self) -> None:
        """Cut it off in the next batch: its connection is just being served."""
        session = self.session
        session.killed = True
        if session.wake is not None:
            session.wake()

    def cut(self) -> None:
        """Cut it off at once."""
        session = self.session
        if session.close is not None:
            session.close()

    def dismiss(self) -> None:
        """Cut it off when everything that is queued for it has been sent."""
        session = self.session
        session.closing = True
        if session.wake is not None:
            session.wake()
