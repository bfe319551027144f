"""The keys of one MIGRATE on their way: what is to be sent to the target, and what it says.

Theory of operation. A shipment knows no socket. On each connection it begins anew
(:meth:`Shipment.begin`): AUTH where there is a password, SELECT where the connection is in another
database, then one RESTORE per key, all pipelined. :meth:`Shipment.load` gives the next portion to
send, :meth:`Shipment.receive` takes what comes back; the replies come in the order of the requests.

- A key is serialized when its turn comes. One that is not there any more by then, or whose time has
  come, is passed over. A large value is serialized bit by bit, with others served in between: until
  it is over nobody may change it, which is for the owner of the shipment to see to; a value that is
  gone from its key is let alone at once.
- Nothing is compressed: the payload is read once, and LZF costs more than the wire.
- A key counts as moved when its RESTORE has succeeded, and AUTH and SELECT have as well. The first
  error of the target is what the client will be told.

(``migrateCommand`` in Redis's cluster.c.)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from node.key_table import Value
from node.keyspace import EVENT_GENERIC, Database
from node.persistence.payload import dump, dump_portions
from node.resp import encode_request
from node.values.collection import Collection

# Bytes after which a portion is sent.
PORTION: Final = 64 * 1024
# Values with more elements, or longer ones, are serialized bit by bit.
LARGE_SIZE: Final = 512
# Bits of a large value (some hundred elements each) that are serialized in one turn.
BITS_PER_TURN: Final = 4
# A reply is a line; one that does not end is no reply.
LONGEST_LINE: Final = 64 * 1024


class ShipmentError(Exception):
    """What came back are no replies."""


def find_present(db: Database, names: list[bytes]) -> list[bytes]:
    """Those of the keys that are there."""
    return [name for name in names if db.find(name) is not None]


class Sent:
    """A key for which a RESTORE has been sent, with the value that it had."""

    __slots__ = ("key", "value")

    def __init__(self, key: bytes, value: Value) -> None:
        self.key = key
        self.value = value


class Shipment:
    """Moves ``keys`` of ``db`` to database ``target_db`` of a target.

    ``asking``: the target imports their slot (RESTORE-ASKING). ``moved`` are those that the target
    has confirmed, ``error`` is the first error line that it has answered with, without the minus.
    """

    __slots__ = (
        "db",
        "keys",
        "target_db",
        "credentials",
        "error",
        "moved",
        "answered",
        "in_flight",
        "_command",
        "_tail",
        "_at",
        "_pending",
        "_preamble",
        "_preamble_left",
        "_denied",
        "_received",
        "_large",
        "_large_bits",
        "_large_size",
        "_large_value",
        "_replies",
        "_input",
    )

    def __init__(
        self,
        db: Database,
        keys: list[bytes],
        target_db: int,
        *,
        credentials: list[bytes],
        replace: bool,
        asking: bool,
    ) -> None:
        self.db = db
        self.keys = keys
        self.target_db = target_db
        # The words behind AUTH; empty for none.
        self.credentials = credentials
        # How a key's request begins and ends.
        words = 5 if replace else 4
        name = b"RESTORE-ASKING" if asking else b"RESTORE"
        self._command = b"*%d\r\n$%d\r\n%b\r\n" % (words, len(name), name)
        self._tail = b"\r\n$7\r\nREPLACE\r\n" if replace else b"\r\n"
        self.begin(-1)

    def begin(self, selected: int) -> None:
        """Start from the first key, on a connection in database ``selected`` (-1: any)."""
        self.error: bytes | None = None
        self.moved: list[Sent] = []
        # Whether the target has answered the RESTORE of any key.
        self.answered = False
        # Bytes of requests that have not been answered.
        self.in_flight = 0
        self._at = 0
        self._preamble: list[bytes] = []
        if self.credentials:
            self._preamble.append(encode_request([b"AUTH", *self.credentials]))
        if selected != self.target_db:
            self._preamble.append(encode_request([b"SELECT", b"%d" % self.target_db]))
        self._preamble_left = len(self._preamble)
        self._denied = False
        # Keys whose reply is still to come, and how many bytes their requests are; the first
        # ``_received`` have had theirs.
        self._pending: list[tuple[Sent, int]] = []
        self._received = 0
        self._large: Iterator[bytes] | None = None
        self._large_bits: list[bytes] = []
        self._large_size = 0
        self._large_value: Value = b""
        self._input = b""

    @property
    def complete(self) -> bool:
        """Whether everything has been sent and answered."""
        return self.sent and not self._preamble_left and self._received == len(self._pending)

    @property
    def sent(self) -> bool:
        """Whether there is nothing more to send."""
        return self._at == len(self.keys) and not self._preamble and self._large is None

    def remove_moved(self) -> list[bytes]:
        """Delete the keys that the target has, where they still have the value that was sent.

        Returns their names; the log is for the caller to write.
        """
        removed: list[bytes] = []
        db = self.db
        for sent in self.moved:
            key = sent.key
            if db.stored(key) is sent.value:
                db.delete(key)
                db.changed(key, None, EVENT_GENERIC, b"del")
                removed.append(key)
        return removed

    # Out.

    def load(self) -> list[bytes]:
        """The next pieces to send, together about a portion or one large value.

        None at all when a large value takes longer: others should be served, then it is to be
        called again.
        """
        pieces: list[bytes] = []
        if self._has_begun_large():
            self._serialize_more(pieces)
            return pieces
        pieces.extend(self._preamble)
        self._preamble = []
        size = 0
        keys = self.keys
        while self._at < len(keys) and size < PORTION and not self._has_begun_large():
            key = keys[self._at]
            self._at += 1
            size += self._load_key(key, pieces)
        return [b"".join(pieces)] if pieces else pieces

    def _has_begun_large(self) -> bool:
        """Whether a large value is being serialized.

        A method, since mypyc trusts that an attribute that was None still is, whatever was called.
        """
        return self._large is not None

    def _load_key(self, key: bytes, pieces: list[bytes]) -> int:
        """Append the request for a key; how many bytes it is. A large value is only begun."""
        value = self.db.stored(key)
        if value is None:
            return 0
        ttl = self._ttl(key)
        if ttl < 0:
            return 0
        if len(value) > (LARGE_SIZE if isinstance(value, Collection) else PORTION):
            self._large = dump_portions(value, False)
            self._large_value = value
            return 0
        payload = dump(value, False)
        request = self._head(key, ttl, len(payload)) + payload + self._tail
        pieces.append(request)
        self._note(key, value, len(request))
        return len(request)

    def _serialize_more(self, pieces: list[bytes]) -> None:
        """Go on with a large value; once it is whole, it is what ``pieces`` get."""
        large = self._large
        assert large is not None
        key = self.keys[self._at - 1]
        value = self._large_value
        if self.db.stored(key) is not value:
            self._forget_large()  # it has gone, and may be falling apart
            return
        bits = self._large_bits
        for _ in range(BITS_PER_TURN):
            bit = next(large, None)
            if bit is None:
                ttl = self._ttl(key)
                if ttl >= 0:
                    pieces.append(self._head(key, ttl, self._large_size))
                    pieces.extend(bits)
                    pieces.append(self._tail)
                    self._note(key, value, sum(map(len, pieces)))
                self._forget_large()
                return
            bits.append(bit)
            self._large_size += len(bit)

    def _forget_large(self) -> None:
        self._large = None
        self._large_bits = []
        self._large_size = 0
        self._large_value = b""

    def _ttl(self, key: bytes) -> int:
        """Milliseconds that a key has left, 0 for ever, -1 when its time has come."""
        deadline = self.db.deadline(key)
        if deadline is None:
            return 0
        left = deadline - self.db.keyspace.now
        return max(left, 1) if left >= 0 else -1

    def _head(self, key: bytes, ttl: int, size: int) -> bytes:
        """The beginning of a key's request, up to its payload of ``size`` bytes."""
        time = b"%d" % ttl
        return self._command + b"$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n" % (
            len(key),
            key,
            len(time),
            time,
            size,
        )

    def _note(self, key: bytes, value: Value, size: int) -> None:
        self._pending.append((Sent(key, value), size))
        self.in_flight += size

    # In.

    def receive(self, data: bytes) -> None:
        """Take what the target says. Raises ShipmentError."""
        lines = (self._input + data).split(b"\n")
        self._input = lines.pop()
        if len(self._input) > LONGEST_LINE:
            raise ShipmentError
        for line in lines:
            self._take_reply(line.rstrip(b"\r"))

    def _take_reply(self, line: bytes) -> None:
        if not line:
            return
        failed = line.startswith(b"-")
        if failed and self.error is None:
            self.error = line[1:]
        if self._preamble_left:
            self._preamble_left -= 1
            self._denied = self._denied or failed
            return
        if self._received == len(self._pending):
            raise ShipmentError  # an answer to nothing
        sent, size = self._pending[self._received]
        self._received += 1
        self.in_flight -= size
        self.answered = True
        if not failed and not self._denied:
            self.moved.append(sent)
