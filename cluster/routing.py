"""Which node a request is for: this one, or the answer says which (MOVED, ASK and the like).

The guard looks at the keys of each request. All must be of one slot, and the slot must be here:
owned, or being imported while the client says ASKING, or replicated while the client says READONLY.
While a slot is on its way to another node, keys that have gone already are asked for there.

After ``getNodeByQuery`` and ``clusterRedirectClient`` in cluster.c of Redis 7.2.
"""

from __future__ import annotations

from typing import Final

from cluster.slots import key_slot
from cluster.state import Node, State
from node.command import MOVABLEKEYS, WRITE, Command
from node.engine import Engine
from node.keyspace import Keyspace
from node.resp import Encoded, Error, Reply, encode_error
from node.session import Session

# How the keys of a command are found.
NO_KEYS: Final = 0
FIRST: Final = 1  # its first argument is its only key
SPECIFIED: Final = 2
CHANNELS: Final = 3  # shard channels are in slots like keys
TRANSACTION: Final = 4
EACH: Final = 5  # all its arguments are keys
PAIRS: Final = 6  # a key and a value, and so on

CROSS_SLOT: Final = Error(b"CROSSSLOT Keys in request don't hash to the same slot")
TRY_AGAIN: Final = Error(b"TRYAGAIN Multiple keys request during rehashing of slot")
DOWN: Final = Error(b"CLUSTERDOWN The cluster is down")
DOWN_READ_ONLY: Final = Error(b"CLUSTERDOWN The cluster is down and only accepts read commands")
UNBOUND: Final = Error(b"CLUSTERDOWN Hash slot not served")

SHARD_CHANNEL_COMMANDS: Final = frozenset((b"ssubscribe", b"sunsubscribe", b"spublish"))

ENDPOINT_IP: Final = 0
ENDPOINT_HOSTNAME: Final = 1
ENDPOINT_UNKNOWN: Final = 2


class Router:
    """The guard, and what it decides by. The directives are taken over by the component."""

    __slots__ = (
        "state",
        "endpoint",
        "reads_when_down",
        "channels_when_down",
        "_engine",
        "_keyspace",
        "_kinds",
    )

    def __init__(self, engine: Engine, state: State) -> None:
        self.state = state
        self.endpoint = ENDPOINT_IP
        self.reads_when_down = False
        self.channels_when_down = True
        self._engine = engine
        self._keyspace: Keyspace = engine.keyspace
        self._kinds: dict[Command, int] = {}

    def guard(self, session: Session, command: Command, argv: list[bytes]) -> Reply:
        """None where the request may be executed here, otherwise the answer instead."""
        asking = session.asking
        if asking and _ends_asking(session, command.name):
            session.asking = False
        kind = self._kinds.get(command, -1)
        if kind < 0:
            kind = self._kinds[command] = find_kind(command)
        if kind == NO_KEYS:
            return None
        if kind == FIRST or kind >= EACH:
            state = self.state
            slot = key_slot(argv[1]) if kind == FIRST else _common_slot(argv, kind - EACH + 1)
            if slot >= 0 and state.up:
                owner = state.owners[slot]
                if owner is state.myself:
                    if not state.migrating or slot not in state.migrating:
                        return None
                elif owner is not None and kind == FIRST and slot in state.importing:
                    if asking or command.name == b"restore-asking":
                        return None
        if session.from_master:
            return None
        if kind == TRANSACTION:
            return self._route_transaction(session, command, asking)
        return self._route(session, kind, command.flags, [(command, argv)], asking)

    def _route_transaction(self, session: Session, command: Command, asking: bool) -> Reply:
        """EXEC: all that is queued must be for here. Otherwise there is no transaction any more."""
        queue = session.queue
        if queue is None or session.queue_failed:
            return None
        requests = [(queued.command, queued.argv) for queued in queue]
        flags = command.flags | session.queue_flags
        refusal = self._route(session, TRANSACTION, flags, requests, asking)
        if refusal is None:
            return None
        session.discard_transaction()
        command.rejected += 1
        self._engine.count_error(refusal.text)
        # As it is: without the words that EXEC is refused with otherwise.
        return Encoded(encode_error(refusal.text))

    def _route(
        self,
        session: Session,
        kind: int,
        flags: int,
        requests: list[tuple[Command, list[bytes]]],
        asking: bool,
    ) -> Error | None:
        state = self.state
        keys: dict[bytes, None] = {}
        stays = False  # a MIGRATE is executed where it is sent
        for command, argv in requests:
            for key in self._keys_of(command, argv):
                keys[key] = None
            stays = stays or command.name == b"migrate"
            asking = asking or command.name == b"restore-asking"
        slot = -1
        owner: Node | None = None
        for key in keys:
            found = key_slot(key)
            if slot < 0:
                slot = found
                owner = state.owners[slot]
                if owner is None:
                    return UNBOUND
            elif slot != found:
                return CROSS_SLOT
        if owner is None:
            return None  # there are no keys
        refusal = self._check_health(kind, flags)
        if refusal is not None:
            return refusal
        target = state.migrating.get(slot) if owner is state.myself else None
        importing = owner is not state.myself and slot in state.importing
        if target is not None or importing:
            if stays:
                return None
            answer = self._route_open_slot(kind, slot, target, importing and asking, list(keys))
            if answer is not None:
                return None if answer is HERE_IT_IS else answer
        if owner is state.myself:
            return None
        if owner is state.myself.master and not flags & WRITE:
            if session.read_only or kind == CHANNELS:
                return None
        return self.redirect(b"MOVED", slot, owner)

    def _check_health(self, kind: int, flags: int) -> Error | None:
        """What may be done while the cluster is down."""
        if self.state.up:
            return None
        if kind == CHANNELS:
            return None if self.channels_when_down else DOWN
        if not self.reads_when_down:
            return DOWN
        return DOWN_READ_ONLY if flags & WRITE else None

    def _route_open_slot(
        self, kind: int, slot: int, target: Node | None, admitted: bool, keys: list[bytes]
    ) -> Error | None:
        """A slot on its way: HERE_IT_IS, a redirection, or None where nothing special holds."""
        missing = 0
        if kind != CHANNELS:
            db = self._keyspace.databases[0]
            for key in keys:
                missing += db.peek(key) is None
        if target is not None and missing:
            if missing < len(keys):
                return TRY_AGAIN
            return self.redirect(b"ASK", slot, target)
        if admitted:
            if missing and len(keys) > 1:
                return TRY_AGAIN
            return HERE_IT_IS
        return None

    def _keys_of(self, command: Command, argv: list[bytes]) -> list[bytes]:
        kind = self._kinds.get(command, -1)
        if kind < 0:
            kind = self._kinds[command] = find_kind(command)
        if kind == NO_KEYS:
            return []
        if kind == FIRST:
            return [argv[1]]
        if kind == CHANNELS:
            return argv[1:2] if command.name == b"spublish" else argv[1:]
        try:
            return [argv[index] for index in command.key_positions(argv)]
        except ValueError:
            return []  # the handler finds out what is wrong

    def redirect(self, word: bytes, slot: int, node: Node) -> Error:
        """``MOVED`` or ``ASK``, and where to."""
        host = self.endpoint_of(node)
        text = b"" if host is None else host.encode()
        return Error(b"%b %d %b:%d" % (word, slot, text, node.port))

    def endpoint_of(self, node: Node) -> str | None:
        """What clients are told to connect to; None: where they are connected to now."""
        if self.endpoint == ENDPOINT_IP:
            return node.ip
        if self.endpoint == ENDPOINT_HOSTNAME:
            return node.hostname or "?"
        return None

    # Clients that wait.

    def redirect_waiting(self) -> None:
        """Send away who waits for keys of slots that have gone.

        While the cluster is down nobody waits, whatever may be read: a write would have to end it.
        (``clusterRedirectBlockedClientIfNeeded``.)
        """
        state = self.state
        blocking = self._engine.blocking
        for wait in list(blocking.waits):
            if not wait.keys or wait.session.from_master:
                continue
            slot = key_slot(wait.keys[0])
            owner = state.owners[slot]
            error: Error | None = None
            if not state.up:
                error = DOWN
            elif owner is None:
                error = UNBOUND
            elif owner is not state.myself and slot not in state.importing:
                mine = owner is state.myself.master and not wait.command.flags & WRITE
                if not (mine and wait.session.read_only):
                    error = self.redirect(b"MOVED", slot, owner)
            if error is not None:
                blocking.unblock(wait.session, error.text)


def _ends_asking(session: Session, name: bytes) -> bool:
    """Whether ASKING is over with this command: it holds for the next one, or a transaction."""
    if session.queue is None:
        return name not in (b"asking", b"multi")
    return name in (b"exec", b"discard")


# Stands for "execute it here".
HERE_IT_IS: Final = Error(b"")


def _common_slot(argv: list[bytes], step: int) -> int:
    """The slot of every ``step``-th argument; -1 where they are of several."""
    slot = key_slot(argv[1])
    for at in range(1 + step, len(argv), step):
        if key_slot(argv[at]) != slot:
            return -1
    return slot


def find_kind(command: Command) -> int:
    """How the keys of a command are found."""
    if command.name == b"exec":
        return TRANSACTION
    if command.name in SHARD_CHANNEL_COMMANDS:
        return CHANNELS
    spec = command.spec
    keys = [keys for keys in spec.keys if "not_key" not in keys.flags]
    if spec.key_finder is None and not keys:
        return NO_KEYS
    if len(keys) == 1 and not command.flags & MOVABLEKEYS:
        only = keys[0]
        # A finder beside such flags says the flags of a key, which is where it is.
        plain = spec.key_finder is None or "variable_flags" in only.flags
        plain = plain and only.keyword is None and only.keynum is None and not only.unknown
        if plain and only.index == 1:
            if only.last == 0:
                return FIRST
            if only.last == -1 and only.limit == 0 and only.step <= 2:
                return EACH if only.step == 1 else PAIRS
    return SPECIFIED
