"""CLIENT: what the server knows of its clients, and what it can do to them.

Behaviour after ``clientCommand`` and ``catClientInfoString`` in Redis's networking.c.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from node.command import Group
from node.commands.arguments import SYNTAX_ERROR, integer
from node.component import Component
from node.connection import BAD_NAME, is_plain
from node.resp import NO_REPLY, OK, Reply, ReplyError, Status, Verbatim
from node.session import (
    CLASS_NORMAL,
    CLASS_PUBSUB,
    CLASS_REPLICA,
    GATE_NO_TOUCH,
    GATE_REPLY,
    GATE_SUBSCRIBED,
    Session,
)
from node.values.number import MAX_INTEGER, parse_integer

if TYPE_CHECKING:
    from node.hub import Hub
    from node.server import Server

Filter = Callable[[Session], bool]

GROUP: Final = Group("connection")
GROUP.container("client", since="2.4.0", summary="Holds the commands about clients.")

FLAGS: Final = "noscript loading stale"
ADMIN_FLAGS: Final = "admin noscript loading stale"

FILTERS: Final = (
    "[ID client-id]@2.8.12 | "
    "[TYPE <NORMAL | MASTER@3.2.0 | SLAVE | REPLICA@5.0.0 | PUBSUB>]@2.8.12 | "
    "[USER username] | [ADDR ip:port] | [LADDR ip:port]@6.2.0 | [SKIPME yes/no]"
)

HELP: Final = (
    "CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "CACHING (YES|NO)",
    "    Track the keys of the next command, or do not (OPTIN and OPTOUT tracking).",
    "GETNAME",
    "    Tell the connection's name.",
    "ID",
    "    Tell the connection's ID.",
    "INFO",
    "    Describe this connection.",
    "KILL <ip:port>",
    "    Close the connection from <ip:port>.",
    "KILL <option> <value> [<option> <value> [...]]",
    "    Close all connections that fit every option. Options are:",
    "    * ADDR (<ip:port>|<unixsocket>:0)",
    "      The address it comes from.",
    "    * LADDR (<ip:port>|<unixsocket>:0)",
    "      The server's address it has connected to.",
    "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
    "      What kind of client it is.",
    "    * USER <username>",
    "      The user it is authenticated as.",
    "    * SKIPME (YES|NO)",
    "      Whether to spare this connection (yes unless said otherwise).",
    "    * ID <client-id>",
    "      Its ID.",
    "LIST [options ...]",
    "    Describe all connections, or those of the option:",
    "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
    "      Of this kind.",
    "    * ID <client-id> [<client-id> [...]]",
    "      With these IDs.",
    "UNPAUSE",
    "    End a pause.",
    "PAUSE <timeout> [WRITE|ALL]",
    "    Hold back the commands of all clients (or those that write) for <timeout> ms.",
    "REPLY (ON|OFF|SKIP)",
    "    Answer this connection's commands, or do not, or leave the next one out.",
    "SETNAME <name>",
    "    Name this connection.",
    "SETINFO <option> <value>",
    "    Tell of the client's library. Options are:",
    "    * LIB-NAME: its name.",
    "    * LIB-VER: its version.",
    "UNBLOCK <clientid> [TIMEOUT|ERROR]",
    "    Let a client that waits in a blocking command go on.",
    "NO-EVICT (ON|OFF)",
    "    Spare this connection when clients take too much memory.",
    "NO-TOUCH (ON|OFF)",
    "    Keep this connection's commands from counting as uses of keys.",
    "HELP",
    "    Print this help.",
)


def wrong_arguments(argv: list[bytes]) -> ReplyError:
    """The error for a subcommand that exists, with arguments that do not."""
    return ReplyError(
        b"ERR unknown subcommand or wrong number of arguments for '%b'. Try %b HELP."
        % (argv[1].partition(b"\0")[0][:128], argv[0].upper())
    )


def kind_of(session: Session) -> int:
    """The class of the client for CLIENT LIST, CLIENT KILL and output limits (getClientType)."""
    if session.client_class == CLASS_REPLICA and session.monitor:
        return CLASS_NORMAL
    if session.client_class == CLASS_NORMAL and session.gate & GATE_SUBSCRIBED:
        return CLASS_PUBSUB
    return session.client_class


def parse_kind(name: bytes) -> Filter:
    """A test for clients of the type that CLIENT LIST and KILL name so."""
    word = name.lower()
    if word == b"master":
        return lambda session: session.from_master
    known = {
        b"normal": CLASS_NORMAL,
        b"replica": CLASS_REPLICA,
        b"slave": CLASS_REPLICA,
        b"pubsub": CLASS_PUBSUB,
    }
    kind = known.get(word)
    if kind is None:
        raise ReplyError(b"ERR Unknown client type '%b'" % name.partition(b"\0")[0])
    return lambda session: kind_of(session) == kind and not session.from_master


class Clients(Component):
    """The CLIENT command over the engine's sessions and the hub's connections."""

    def __init__(self, server: Server) -> None:
        super().__init__(server.engine)
        self.hub = server.hub

    def groups(self) -> Sequence[Group]:
        return (GROUP,)

    @GROUP.command(
        "client|id",
        2,
        FLAGS,
        since="5.0.0",
        complexity="O(1)",
        summary="Tells the connection's ID.",
    )
    def id(self, ctx: Session, argv: list[bytes]) -> Reply:
        """Its number, which no other connection of this server ever gets."""
        return ctx.id

    @GROUP.command(
        "client|info",
        2,
        FLAGS,
        since="6.2.0",
        complexity="O(1)",
        summary="Describes the connection.",
        tips=("nondeterministic_output",),
    )
    def info(self, ctx: Session, argv: list[bytes]) -> Reply:
        """The line of CLIENT LIST."""
        return Verbatim(describe(ctx, self.hub, argv) + b"\n")

    @GROUP.command(
        "client|list",
        -2,
        ADMIN_FLAGS,
        since="2.4.0",
        complexity="O(N) where N is the number of client connections",
        summary="Describes the open connections.",
        syntax=(
            "[TYPE <NORMAL | MASTER | REPLICA | PUBSUB>]@5.0.0 [ID client-id [client-id ...]]@6.2.0"
        ),
        tips=("nondeterministic_output",),
        history=[
            ("2.8.12", "Each client has an `id`."),
            ("5.0.0", "The option `TYPE`."),
            ("6.0.0", "The field `user`."),
            ("6.2.0", "The fields `argv-mem`, `tot-mem`, `laddr`, `redir` and the option `ID`."),
            ("7.0.0", "The fields `resp`, `multi-mem`, `rbs` and `rbp`."),
            ("7.0.3", "The field `ssub`."),
            ("7.2.0", "The fields `lib-name` and `lib-ver`."),
        ],
    )
    def list_clients(self, ctx: Session, argv: list[bytes]) -> Reply:
        """A line each for all, those of a type, or those with the given IDs."""
        sessions = self.engine.sessions
        chosen: list[Session] = list(sessions.values())
        if len(argv) > 2:
            option = argv[2].upper()
            if option == b"TYPE" and len(argv) == 4:
                fits = parse_kind(argv[3])
                chosen = [session for session in chosen if fits(session)]
            elif option == b"ID" and len(argv) > 3:
                chosen = []
                for argument in argv[3:]:
                    session = sessions.get(integer(argument, b"ERR Invalid client ID"))
                    if session is not None:
                        chosen.append(session)
            else:
                raise ReplyError(SYNTAX_ERROR)
        lines = [describe(s, self.hub, argv if s is ctx else None) + b"\n" for s in chosen]
        return Verbatim(b"".join(lines))

    # What a client says of itself.

    @GROUP.command(
        "client|getname",
        2,
        FLAGS,
        since="2.6.9",
        complexity="O(1)",
        summary="Tells the connection's name.",
    )
    def get_name(self, ctx: Session, argv: list[bytes]) -> Reply:
        """Null where it has none."""
        return ctx.name or None

    @GROUP.command(
        "client|setname",
        3,
        FLAGS,
        since="2.6.9",
        complexity="O(1)",
        summary="Names the connection.",
        syntax="connection-name",
    )
    def set_name(self, ctx: Session, argv: list[bytes]) -> Reply:
        """An empty name takes the name away."""
        if not is_plain(argv[2]):
            raise ReplyError(b"ERR " + BAD_NAME)
        ctx.name = argv[2]
        return OK

    @GROUP.command(
        "client|setinfo",
        4,
        FLAGS,
        since="7.2.0",
        complexity="O(1)",
        summary="Tells of the client's library.",
        syntax="<LIB-NAME libname | LIB-VER libver>",
    )
    def set_info(self, ctx: Session, argv: list[bytes]) -> Reply:
        """Name or version of the library; empty takes it away."""
        attribute = argv[2].lower()
        if attribute not in (b"lib-name", b"lib-ver"):
            raise ReplyError(b"ERR Unrecognized option '%b'" % argv[2].partition(b"\0")[0])
        if not is_plain(argv[3]):
            raise ReplyError(
                b"ERR %b cannot contain spaces, newlines or special characters." % argv[2]
            )
        if attribute == b"lib-name":
            ctx.library_name = argv[3]
        else:
            ctx.library_version = argv[3]
        return OK

    @GROUP.command(
        "client|reply",
        3,
        FLAGS,
        since="3.2.0",
        complexity="O(1)",
        summary="Chooses whether the connection's commands are answered.",
        syntax="<ON | OFF | SKIP>",
    )
    def reply(self, ctx: Session, argv: list[bytes]) -> Reply:
        """OFF and SKIP are not answered themselves."""
        mode = argv[2].upper()
        if mode == b"ON":
            ctx.reply_mode = 0
            ctx.set_gate(GATE_REPLY, False)
            return OK
        if mode == b"OFF":
            ctx.reply_mode = 1
            ctx.set_gate(GATE_REPLY, True)
            return NO_REPLY
        if mode != b"SKIP":
            raise ReplyError(SYNTAX_ERROR)
        if ctx.reply_mode != 1:
            ctx.reply_mode = 3
            ctx.set_gate(GATE_REPLY, True)
        return NO_REPLY

    @GROUP.command(
        "client|no-evict",
        3,
        ADMIN_FLAGS,
        since="7.0.0",
        complexity="O(1)",
        summary="Spares the connection when clients take too much memory.",
        syntax="<ON | OFF>",
    )
    def no_evict(self, ctx: Session, argv: list[bytes]) -> Reply:
        """ON or OFF."""
        ctx.no_evict = parse_switch(argv[2])
        return OK

    @GROUP.command(
        "client|no-touch",
        3,
        FLAGS,
        since="7.2.0",
        complexity="O(1)",
        summary="Keeps the connection's commands from counting as uses of keys.",
        syntax="<ON | OFF>",
    )
    def no_touch(self, ctx: Session, argv: list[bytes]) -> Reply:
        """ON or OFF."""
        ctx.no_touch = parse_switch(argv[2])
        ctx.set_gate(GATE_NO_TOUCH, ctx.no_touch)
        return OK

    @GROUP.command(
        "client|caching",
        3,
        FLAGS,
        since="6.0.0",
        complexity="O(1)",
        summary="Tracks the keys of the next command, or does not.",
        syntax="<YES | NO>",
    )
    def caching(self, ctx: Session, argv: list[bytes]) -> Reply:
        """No client tracks, so none may ask for this."""
        raise ReplyError(
            b"ERR CLIENT CACHING can be called only when the client is in tracking mode with "
            b"OPTIN or OPTOUT mode enabled"
        )

    # What a client does to others.

    @GROUP.command(
        "client|kill",
        -3,
        ADMIN_FLAGS,
        since="2.4.0",
        complexity="O(N) where N is the number of client connections",
        summary="Closes connections.",
        syntax=f"filter=<ip:port | new-format=<{FILTERS}> [<{FILTERS}> ...]>",
        history=[
            ("2.8.12", "Options, several in one call."),
            ("2.8.12", "The option `ID`."),
            ("3.2.0", "The type `master`."),
            ("5.0.0", "The type `replica`, which `slave` still stands for too."),
            ("6.2.0", "The option `LADDR`."),
        ],
    )
    def kill(self, ctx: Session, argv: list[bytes]) -> Reply:
        """By address (OK, or an error if there is none) or by options (how many were closed)."""
        if len(argv) == 3:
            if self._kill_all(ctx, [partial(_has_address, argv[2])], False) == 0:
                raise ReplyError(b"ERR No such client")
            return OK
        filters, spare_me = self._parse_filters(argv)
        return self._kill_all(ctx, filters, spare_me)

    def _parse_filters(self, argv: list[bytes]) -> tuple[list[Filter], bool]:
        filters: dict[bytes, Filter] = {}
        spare_me = True
        for at in range(2, len(argv), 2):
            if at + 1 == len(argv):
                raise ReplyError(SYNTAX_ERROR)
            option = argv[at].upper()
            value = argv[at + 1]
            if option == b"ID":
                wanted = parse_integer(value)
                if wanted is None or not 1 <= wanted <= MAX_INTEGER:
                    raise ReplyError(b"ERR client-id should be greater than 0")
                filters[option] = partial(_has_id, wanted)
            elif option == b"TYPE":
                filters[option] = parse_kind(value)
            elif option == b"ADDR":
                filters[option] = partial(_has_address, value)
            elif option == b"LADDR":
                filters[option] = partial(_has_local_address, value)
            elif option == b"USER":
                if not self.knows_user(value):
                    raise ReplyError(b"ERR No such user '%b'" % value.partition(b"\0")[0])
                filters[option] = partial(_has_user, value)
            elif option == b"SKIPME" and value.lower() in (b"yes", b"no"):
                spare_me = value.lower() == b"yes"
            else:
                raise ReplyError(SYNTAX_ERROR)
        return list(filters.values()), spare_me

    def knows_user(self, name: bytes) -> bool:
        """Whether there is such a user."""
        return name == b"default"

    def _kill_all(self, ctx: Session, filters: list[Filter], spare_me: bool) -> int:
        killed = 0
        for session in list(self.engine.sessions.values()):
            if not all(fits(session) for fits in filters):
                continue
            if session is ctx:
                if spare_me:
                    continue
                # It still gets the reply.
                session.closing = True
            elif session.close is not None:
                session.close()
            killed += 1
        return killed

    @GROUP.command(
        "client|unblock",
        -3,
        ADMIN_FLAGS,
        since="5.0.0",
        complexity="O(log N) where N is the number of client connections",
        summary="Lets a client that waits in a blocking command go on.",
        syntax="client-id [TIMEOUT | ERROR]",
    )
    def unblock(self, ctx: Session, argv: list[bytes]) -> Reply:
        """1 if the client was waiting; it gets the reply of a timeout, or an error."""
        if len(argv) > 4:
            raise wrong_arguments(argv)
        error: bytes | None = None
        if len(argv) == 4:
            reason = argv[3].upper()
            if reason == b"ERROR":
                error = b"UNBLOCKED client unblocked via CLIENT UNBLOCK"
            elif reason != b"TIMEOUT":
                raise ReplyError(b"ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")
        session = self.engine.sessions.get(integer(argv[2]))
        return int(session is not None and self.engine.blocking.unblock(session, error))

    @GROUP.command(
        "client|help",
        2,
        "loading stale",
        since="5.0.0",
        complexity="O(1)",
        summary="Lists the subcommands of CLIENT.",
    )
    def help(self, ctx: Session, argv: list[bytes]) -> Reply:
        """The lines above."""
        return [Status(line.encode()) for line in HELP]


def describe(session: Session, hub: Hub, argv: list[bytes] | None = None) -> bytes:
    """One line of CLIENT LIST, without its end. ``argv`` is what the client is running now.

    There are no fixed reply buffers here: ``rbs``, ``rbp`` and ``qbuf-free`` are 0,
    ``obl`` is what has been replied but not sent yet, ``oll`` and ``omem`` are what the socket
    did not take.
    """
    now = session.now // 1000
    connection = hub.connections.get(session.fd)
    if argv is None and session.blocked is not None:
        argv = session.blocked.argv
    argument_memory = sum(map(len, argv)) if argv else 0
    query = chunks = 0
    events = b""
    if connection is not None and connection.session is session:
        query = session.query_size = connection.query_size()
        chunks = len(connection.unsent)
        events = b"rw" if chunks else b"r"
    return (
        b"id=%d addr=%b laddr=%b fd=%d name=%b age=%d idle=%d flags=%b db=%d sub=%d psub=%d "
        b"ssub=%d multi=%d qbuf=%d qbuf-free=0 argv-mem=%d multi-mem=%d rbs=0 rbp=0 obl=%d "
        b"oll=%d omem=%d tot-mem=%d events=%b cmd=%b user=%b redir=-1 resp=%d lib-name=%b "
        b"lib-ver=%b"
        % (
            session.id,
            session.address,
            session.local_address,
            session.fd,
            session.name,
            now - int(session.created),
            now - session.active // 1000,
            describe_state(session),
            session.db.index,
            len(session.channels),
            len(session.patterns),
            len(session.shard_channels),
            -1 if session.queue is None else len(session.queue),
            query,
            argument_memory,
            session.queue_memory,
            sum(map(len, session.out)),
            chunks,
            session.out_size,
            session.memory + argument_memory,
            events,
            b"NULL" if session.last_command is None else session.last_command.name,
            b"(superuser)" if session.from_master else session.user,
            session.protocol,
            session.library_name,
            session.library_version,
        )
    )


def parse_switch(argument: bytes) -> bool:
    """ON or OFF."""
    word = argument.upper()
    if word not in (b"ON", b"OFF"):
        raise ReplyError(SYNTAX_ERROR)
    return word == b"ON"


def _has_id(wanted: int, session: Session) -> bool:
    return session.id == wanted


def _has_address(wanted: bytes, session: Session) -> bool:
    return session.address == wanted


def _has_local_address(wanted: bytes, session: Session) -> bool:
    return session.local_address == wanted


def _has_user(wanted: bytes, session: Session) -> bool:
    return session.user == wanted


def describe_state(session: Session) -> bytes:
    """The flags of CLIENT LIST."""
    flags = b""
    if session.client_class == CLASS_REPLICA or session.monitor:
        flags += b"O" if session.monitor else b"S"
    if session.from_master:
        flags += b"M"
    if session.gate & GATE_SUBSCRIBED:
        flags += b"P"
    if session.queue is not None:
        flags += b"x"
    if session.blocked is not None:
        flags += b"b"
    if session.watch_failed:
        flags += b"d"
    if session.closing:
        flags += b"c"
    if session.killed:
        flags += b"A"
    if session.unix_socket:
        flags += b"U"
    if session.read_only:
        flags += b"r"
    if session.no_evict:
        flags += b"e"
    if session.no_touch:
        flags += b"T"
    return flags or b"N"
