"""What a replica says to its master until the stream begins.

Theory of operation. The replica sends PING and waits for the answer, which shows that the master is
there and not blocked. Then it introduces itself in one go (AUTH, REPLCONF …) and reads the answers
in order; only a failed AUTH is fatal, since an old master may not know all of REPLCONF. At last it
asks for the history by PSYNC, from where its own data end (``PSYNC … FAILOVER`` if the other one is
to become the master by that), and the answer is one of

- ``+CONTINUE [id]``: the stream follows at once, from that position;
- ``+FULLRESYNC <id> <offset>``: all data follow (:mod:`node.replication.payload`), then the stream;
- an error that will pass (the master loads, or has lost its own master): try again later;
- any other error: an old master, which knows only SYNC. All data follow, without id and offset.
  One that was to become the master has refused.

Two rules: :meth:`Handshake.receive` is called with each line that comes in, without its line end,
until ``outcome`` is set; what it returns is to be sent at once. An empty line is a sign of life.
(``syncWithMaster`` and ``slaveTryPartialResynchronization`` in Redis's replication.c.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from node.replication.history import ID_LENGTH
from node.resp import encode_request

# Errors to PING that are no reason to give up: AUTH has not been sent yet.
_HARMLESS: Final = (b"-NOAUTH", b"-NOPERM", b"-ERR operation not permitted")
_PASSING: Final = (b"-NOMASTERLINK", b"-LOADING")


@dataclass(frozen=True, slots=True)
class Introduction:
    """What a replica tells of itself; empty where there is nothing to tell."""

    port: int
    version: bytes
    address: bytes = b""
    user: bytes = b""
    password: bytes = b""


@dataclass(frozen=True, slots=True)
class Continue:
    """The stream goes on where the replica's data end; ``id`` is the history's name by now."""

    id: bytes


@dataclass(frozen=True, slots=True)
class FullSync:
    """All data follow: the first ``offset`` bytes of the history ``id``.

    An old master (SYNC) tells neither: ``id`` is empty and ``offset`` -1.
    """

    id: bytes
    offset: int


@dataclass(frozen=True, slots=True)
class Failure:
    """Nothing comes of this connection; ``text`` is for the log."""

    text: str


Outcome = Continue | FullSync | Failure


class Handshake:
    """One attempt, on one connection.

    ``id`` and ``position`` say which history the replica has, and how many bytes of it; without
    an id it asks for all data. ``failover``: the other one is to become the master. ``asked`` is
    whether the history has been asked for. ``remarks`` gathers lines for the log.
    """

    __slots__ = (
        "outcome",
        "asked",
        "remarks",
        "_about",
        "_id",
        "_position",
        "_failover",
        "_waiting",
    )

    def __init__(
        self, about: Introduction, id: bytes = b"", position: int = -1, failover: bool = False
    ) -> None:
        self.outcome: Outcome | None = None
        self.asked = False
        self.remarks: list[str] = []
        self._about = about
        self._id = id
        self._position = position
        self._failover = failover
        # What the answers still to come are answers to.
        self._waiting: list[str] = []

    def begin(self) -> bytes:
        """The first thing to send."""
        self._waiting = ["PING"]
        return encode_request([b"PING"])

    def receive(self, line: bytes) -> bytes:
        """Take an answer; what is to be sent then."""
        assert self.outcome is None
        if not line:
            return b""
        question = self._waiting.pop(0)
        if question == "PSYNC":
            return self._take_answer(line)
        if question == "PING":
            if not line.startswith(b"+") and not line.startswith(_HARMLESS):
                self.outcome = Failure(f"Error reply to PING from master: '{_show(line)}'")
                return b""
            self.remarks.append("Master replied to PING, replication can continue...")
            return self._introduce()
        if line.startswith(b"-"):
            if question == "AUTH":
                self.outcome = Failure(f"Unable to AUTH to MASTER: {_show(line)}")
                return b""
            self.remarks.append(
                f"(Non critical) Master does not understand {question}: {_show(line)}"
            )
        return b"" if self._waiting else self._ask()

    def _introduce(self) -> bytes:
        about = self._about
        requests: list[bytes] = []
        if about.password:
            user = [about.user] if about.user else []
            requests.append(encode_request([b"AUTH", *user, about.password]))
            self._waiting.append("AUTH")
        requests.append(encode_request([b"REPLCONF", b"listening-port", b"%d" % about.port]))
        self._waiting.append("REPLCONF listening-port")
        if about.address:
            requests.append(encode_request([b"REPLCONF", b"ip-address", about.address]))
            self._waiting.append("REPLCONF ip-address")
        requests.append(encode_request([b"REPLCONF", b"capa", b"eof", b"capa", b"psync2"]))
        self._waiting.append("REPLCONF capa")
        requests.append(encode_request([b"REPLCONF", b"version", about.version]))
        self._waiting.append("REPLCONF version")
        return b"".join(requests)

    def _ask(self) -> bytes:
        self.asked = True
        self._waiting.append("PSYNC")
        further = [b"FAILOVER"] if self._failover else []
        if self._id:
            self.remarks.append(
                "Trying a partial resynchronization "
                f"(request {_show(self._id)}:{self._position + 1})."
            )
            return encode_request([b"PSYNC", self._id, b"%d" % (self._position + 1), *further])
        self.remarks.append("Partial resynchronization not possible (no cached master)")
        return encode_request([b"PSYNC", b"?", b"-1", *further])

    def _take_answer(self, line: bytes) -> bytes:
        words = line.split(b" ")
        if words[0] == b"+FULLRESYNC":
            if len(words) != 3 or not _is_id(words[1]) or not words[2].isdigit():
                self.outcome = Failure("Master replied with wrong +FULLRESYNC syntax.")
                return b""
            self.remarks.append(f"Full resync from master: {_show(words[1])}:{_show(words[2])}")
            self.outcome = FullSync(words[1].lower(), int(words[2]))
        elif words[0] == b"+CONTINUE":
            if not self._id or (len(words) > 1 and not _is_id(words[1])):
                self.outcome = Failure("Master replied with wrong +CONTINUE syntax.")
                return b""
            self.remarks.append("Successful partial resynchronization with master.")
            self.outcome = Continue(words[1].lower() if len(words) > 1 else self._id)
        elif line.startswith(_PASSING):
            self.outcome = Failure(
                "Master is currently unable to PSYNC but should be in the future: " + _show(line)
            )
        else:
            self.remarks.append(
                f"Unexpected reply to PSYNC from master: {_show(line)}"
                if not line.startswith(b"-ERR")
                else f"Master does not support PSYNC or is in error state (reply: {_show(line)})"
            )
            if self._failover:
                self.outcome = Failure("The target of the failover does not take over.")
                return b""
            self.remarks.append("Retrying with SYNC...")
            self.outcome = FullSync(b"", -1)
            return encode_request([b"SYNC"])
        return b""


def _is_id(word: bytes) -> bool:
    return len(word) == ID_LENGTH and all(byte in b"0123456789abcdefABCDEF" for byte in word)


def _show(text: bytes) -> str:
    return text.decode(errors="replace")
