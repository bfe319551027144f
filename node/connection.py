"""Connections: who may connect, who a client is, in which protocol it is answered.

Behaviour after Redis's ``acceptCommonHandler``, ``helloCommand``, ``resetCommand`` and
``quitCommand`` (networking.c), ``authCommand`` (acl.c) and ``pingCommand`` (server.c).
"""

from __future__ import annotations

from hmac import compare_digest
from typing import TYPE_CHECKING, Final

from node.command import Group
from node.commands.arguments import REDACTED, SYNTAX_ERROR
from node.component import Component
from node.information import Fields, Section
from node.resp import OK, PONG, Map, Reply, ReplyError, Status, encode_error
from node.session import (
    CLASS_REPLICA,
    GATE_NO_TOUCH,
    GATE_REPLY,
    GATE_STRANGER,
    GATE_SUBSCRIBED,
    Session,
)
from node.values.number import parse_integer
from node.version import REDIS_VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from node.hub import Connection
    from node.server import Server

GROUP: Final = Group("connection")
RESET: Final = Status(b"RESET")

BAD_NAME: Final = b"Client names cannot contain spaces, newlines or special characters."
NO_PASSWORD: Final = (
    b"ERR AUTH <password> called without any password configured for the default user. "
    b"Are you sure your configuration is correct?"
)
WRONG_PASSWORD: Final = b"WRONGPASS invalid username-password pair or user is disabled."
HELLO_FIRST: Final = (
    b"NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO "
    b"<proto> AUTH <user> <pass> option can be used to authenticate the client and select the "
    b"RESP protocol version at the same time"
)
DENIED: Final = (
    b"DENIED Redis is running in protected mode because protected mode is enabled and no password "
    b"is set for the default user. In this mode connections are only accepted from the loopback "
    b"interface. To let other hosts in, do one of these: 1) set a password with 'CONFIG SET "
    b"requirepass', 2) send 'CONFIG SET protected-mode no' from this server's own host, if no "
    b"stranger can reach its port (CONFIG REWRITE keeps either), 3) write one of the two into the "
    b"configuration file, or start the server with '--protected-mode no'."
)


def is_plain(text: bytes) -> bool:
    """True for what a client may be called: graphic ASCII without spaces (validateClientAttr)."""
    return all(33 <= byte <= 126 for byte in text)


def is_local(session: Session) -> bool:
    """True for a client on this machine, as far as its address tells."""
    return session.unix_socket or session.address.startswith((b"127.", b"[::1]:"))


class Connections(Component):
    """Authentication, the protocol, and the commands that are about the connection itself.

    There is one user, ``default``, whose password is ``requirepass``. ``mode`` and ``role`` are
    what HELLO says of the server; a sentinel has no role.
    """

    def __init__(self, server: Server) -> None:
        super().__init__(server.engine)
        self._hub = server.hub
        self._hub.greet = self.greet
        self.mode = b"standalone"
        self.role = b"master"
        self.password = b""
        self.denied = 0  # AUTH with the wrong name or password
        self._protected = True
        server.config.on_change(("requirepass", "protected-mode"), self._configure)
        self._configure()

    def sections(self) -> Sequence[Section]:
        return (Section("Stats", self._collect),)

    def _collect(self) -> Fields:
        return [("acl_access_denied_auth", self.denied)]

    def reset_statistics(self) -> None:
        self.denied = 0

    def groups(self) -> Sequence[Group]:
        return (GROUP,)

    def _configure(self) -> None:
        config = self.engine.config
        self.password = config.octets("requirepass")
        self._protected = config.boolean("protected-mode")
        # Who has been let in stays; who has not needs a password from now on, or needs none more.
        for connection in self._hub.connections.values():
            self._classify(connection)

    # Coming in.

    def greet(self, connection: Connection) -> bool:
        """Look at a new client before its first request; False sends it away (`hub.greet`)."""
        session = connection.session
        if self._protected and not self.password and not is_local(session):
            session.out.append(encode_error(DENIED))
            return False
        session.authenticated = not self.password
        self._classify(connection)
        return True

    def _classify(self, connection: Connection) -> None:
        """Treat the client as a stranger or not, as it is authenticated or need not be."""
        session = connection.session
        stranger = bool(self.password) and not session.authenticated
        session.set_gate(GATE_STRANGER, stranger)
        connection.parser.stranger = stranger

    def _update(self, session: Session) -> None:
        connection = self._hub.connections.get(session.fd)
        if connection is not None and connection.session is session:
            self._classify(connection)

    def forget_user(self, session: Session) -> None:
        """Make the client the default user, let in if that has no password."""
        session.user = b"default"
        session.authenticated = not self.password
        self._update(session)

    def authenticate(self, session: Session, user: bytes, password: bytes) -> bool:
        """Let the client in as ``user`` if the password is right."""
        if user != b"default" or (self.password and not compare_digest(password, self.password)):
            self.denied += 1
            return False
        session.user = user
        session.authenticated = True
        self._update(session)
        return True

    # Commands.

    @GROUP.command(
        "auth",
        -2,
        "noscript loading stale fast no_auth allow_busy",
        since="1.0.0",
        complexity="O(N) where N is the number of passwords defined for the user",
        summary="Tells the server who the client is.",
        syntax="[username]@6.0.0 password",
        history=[("6.0.0", "Takes a user name too.")],
    )
    def auth(self, ctx: Session, argv: list[bytes]) -> Reply:
        """Password of the default user, or a user's name and password."""
        if len(argv) > 3:
            raise ReplyError(SYNTAX_ERROR)
        password = argv[-1]
        user = b"default"
        # MONITOR and the slow log show the arguments as they are left here.
        if len(argv) == 3:
            user = argv[1]
            argv[1] = REDACTED
        argv[-1] = REDACTED
        if len(argv) == 2 and not self.password:
            raise ReplyError(NO_PASSWORD)
        if not self.authenticate(ctx, user, password):
            raise ReplyError(WRONG_PASSWORD)
        return OK

    @GROUP.command(
        "hello",
        -1,
        "noscript loading stale fast no_auth allow_busy",
        since="6.0.0",
        complexity="O(1)",
        summary="Chooses the protocol of the connection, and tells of the server.",
        syntax="[protover:integer [AUTH username password] [SETNAME clientname]]",
        history=[
            ("6.2.0", "The protocol may be left out; the reply then tells of the connection."),
        ],
    )
    def hello(self, ctx: Session, argv: list[bytes]) -> Reply:
        """All options take effect, or none if one is refused."""
        protocol = ctx.protocol
        if len(argv) > 1:
            version = parse_integer(argv[1])
            if version is None:
                raise ReplyError(b"ERR Protocol version is not an integer or out of range")
            if version not in (2, 3):
                raise ReplyError(b"NOPROTO unsupported protocol version")
            protocol = version
        credentials: tuple[bytes, bytes] | None = None
        name: bytes | None = None
        at = 2
        while at < len(argv):
            option = argv[at].upper()
            if option == b"AUTH" and at + 2 < len(argv):
                credentials = argv[at + 1], argv[at + 2]
                argv[at + 1] = argv[at + 2] = REDACTED
                at += 3
            elif option == b"SETNAME" and at + 1 < len(argv):
                name = argv[at + 1]
                if not is_plain(name):
                    raise ReplyError(b"ERR " + BAD_NAME)
                at += 2
            else:
                option = argv[at].partition(b"\0")[0]
                raise ReplyError(b"ERR Syntax error in HELLO option '%b'" % option)
        if credentials is not None and not self.authenticate(ctx, *credentials):
            raise ReplyError(WRONG_PASSWORD)
        if self.password and not ctx.authenticated:
            raise ReplyError(HELLO_FIRST)
        if name is not None:
            ctx.name = name
        ctx.protocol = protocol
        role: list[Reply] = [b"role", self.role] if self.role else []
        return Map(
            [
                *(b"server", b"redis"),
                *(b"version", REDIS_VERSION.encode()),
                *(b"proto", protocol),
                *(b"id", ctx.id),
                *(b"mode", self.mode),
                *role,
                *(b"modules", []),
            ]
        )

    @GROUP.command(
        "ping",
        -1,
        "fast",
        since="1.0.0",
        complexity="O(1)",
        summary="Tells whether the server answers.",
        syntax="[message]",
        tips=("request_policy:all_shards", "response_policy:all_succeeded"),
    )
    def ping(self, ctx: Session, argv: list[bytes]) -> Reply:
        """PONG or the message; for subscribers in RESP2 in the form of their messages."""
        if len(argv) > 2:
            raise ReplyError(b"ERR wrong number of arguments for 'ping' command")
        if ctx.gate & GATE_SUBSCRIBED and ctx.protocol == 2:
            return [b"pong", argv[1] if len(argv) == 2 else b""]
        return argv[1] if len(argv) == 2 else PONG

    @GROUP.command(
        "echo",
        2,
        "loading stale fast",
        since="1.0.0",
        complexity="O(1)",
        summary="Returns its argument.",
        syntax="message",
    )
    def echo(self, ctx: Session, argv: list[bytes]) -> Reply:
        """The message."""
        return argv[1]

    @GROUP.command(
        "quit",
        -1,
        "noscript loading stale fast no_auth allow_busy",
        since="1.0.0",
        complexity="O(1)",
        summary="Closes the connection.",
        deprecated_since="7.2.0",
        replaced_by="just closing the connection",
        doc_flags=("deprecated",),
    )
    def quit(self, ctx: Session, argv: list[bytes]) -> Reply:
        """OK, then the end."""
        ctx.closing = True
        return OK

    @GROUP.command(
        "reset",
        1,
        "noscript loading stale fast no_auth allow_busy",
        since="6.2.0",
        complexity="O(1)",
        summary="Makes the connection as it was when it was new.",
    )
    def reset(self, ctx: Session, argv: list[bytes]) -> Reply:
        """Every component forgets the client; what the library said of itself stays."""
        if ctx.client_class == CLASS_REPLICA and not ctx.monitor:
            raise ReplyError(b"ERR can only reset normal client connections")
        engine = self.engine
        for component in engine.components:
            component.session_reset(ctx)
        ctx.db = engine.keyspace.databases[0]
        ctx.protocol = 2
        ctx.name = b""
        ctx.asking = ctx.read_only = ctx.no_touch = ctx.no_evict = False
        ctx.set_gate(GATE_NO_TOUCH, False)
        ctx.reply_mode = 0
        ctx.set_gate(GATE_REPLY, False)
        self.forget_user(ctx)
        return RESET
