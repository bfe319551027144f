"""CLIENT, PAUSE, MONITOR and the commands of the connection, on an engine without sockets."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from node.clients import HELP
from node.hub import Connection
from node.monitor import quote
from node.pause import Pause
from tests.inprocess import LocalClient, LocalServer
from tests.wire import (
    NULL_ARRAY,
    NULL_BULK,
    OK,
    PONG,
    QUEUED,
    Argument,
    Error,
    Map,
    Simple,
    Verbatim,
)

SYNTAX_ERROR = Error(b"ERR syntax error")


@pytest.fixture
def server() -> Iterator[LocalServer]:
    """An engine with all components."""
    with LocalServer() as local:
        yield local


class Visitor(LocalClient):
    """A client with what the hub gives: an address, a way to be closed, requests put off."""

    def __init__(self, server: LocalServer, address: bytes, protocol: int = 2) -> None:
        super().__init__(server.engine, protocol)
        self.session.address = address
        self.session.local_address = b"127.0.0.1:6379"
        self.session.close = self.close


def visit(server: LocalServer, number: int, protocol: int = 2) -> Visitor:
    """A client from the given port."""
    return Visitor(server, b"127.0.0.1:%d" % number, protocol)


def fields_of(line: bytes) -> dict[str, str]:
    """A line of CLIENT LIST."""
    return dict(field.split("=", 1) for field in line.decode().rstrip("\n").split(" "))


def listing(client: LocalClient, *arguments: Argument) -> list[dict[str, str]]:
    """CLIENT LIST."""
    reply = client("CLIENT", "LIST", *arguments)
    text = reply.text if isinstance(reply, Verbatim) else reply
    assert isinstance(text, bytes), reply
    return [fields_of(line) for line in text.splitlines()]


def is_open(client: LocalClient) -> bool:
    """Whether the server still knows the client."""
    return client.session.id in client.engine.sessions


# --- describing ----------------------------------------------------------------------------------

FIELDS = [
    *("id", "addr", "laddr", "fd", "name", "age", "idle", "flags", "db", "sub", "psub", "ssub"),
    *("multi", "qbuf", "qbuf-free", "argv-mem", "multi-mem", "rbs", "rbp", "obl", "oll", "omem"),
    *("tot-mem", "events", "cmd", "user", "redir", "resp", "lib-name", "lib-ver"),
]


def test_every_field_of_a_line(server: LocalServer) -> None:
    client, asker = visit(server, 1001, 3), visit(server, 1002)
    client("CLIENT", "SETNAME", "me")
    client("CLIENT", "SETINFO", "LIB-NAME", "lettuce")
    client("CLIENT", "SETINFO", "lib-ver", "6.3")
    client("SELECT", 2)
    server.advance(10)
    client.session.active = int(server.clock.wall() * 1000)
    client("SUBSCRIBE", "a")
    client("PSUBSCRIBE", "p*")
    client("SSUBSCRIBE", "s")
    client("MULTI")
    client("SET", "key", "value")
    server.advance(5)
    (about,) = listing(asker, "ID", client.session.id)
    assert list(about) == FIELDS
    assert about["addr"] == "127.0.0.1:1001"
    assert about["laddr"] == "127.0.0.1:6379"
    assert about["name"] == "me"
    assert (about["age"], about["idle"]) == ("15", "5")
    assert about["flags"] == "Px"
    assert about["db"] == "2"
    assert [about[field] for field in ("sub", "psub", "ssub", "multi")] == ["1", "1", "1", "1"]
    assert int(about["multi-mem"]) > len("SETkeyvalue")
    assert int(about["tot-mem"]) > int(about["multi-mem"])
    assert about["cmd"] == "set"
    assert (about["user"], about["redir"], about["resp"]) == ("default", "-1", "3")
    assert (about["lib-name"], about["lib-ver"]) == ("lettuce", "6.3")
    me = fields_of(asker("CLIENT", "INFO"))  # type: ignore[arg-type]
    assert me["cmd"] == "client|info"
    assert me["argv-mem"] == str(len("CLIENTINFO"))
    assert me["multi"] == "-1"
    assert me["flags"] == "N"


def test_flags(server: LocalServer) -> None:
    client, asker = visit(server, 1001), visit(server, 1002)

    def flags() -> str:
        return listing(asker, "ID", client.session.id)[0]["flags"]

    client("WATCH", "key")
    asker("SET", "key", "1")
    assert flags() == "d"
    client("UNWATCH")
    client("CLIENT", "NO-EVICT", "ON")
    client("CLIENT", "NO-TOUCH", "on")
    assert flags() == "eT"
    client("CLIENT", "NO-EVICT", "OFF")
    client("CLIENT", "NO-TOUCH", "OFF")
    client("MONITOR")
    assert flags() == "O"
    client("RESET")
    client.send("BLPOP", "list", 0)
    assert flags() == "b"
    assert listing(asker, "ID", client.session.id)[0]["argv-mem"] == str(len("BLPOPlist0"))


def test_which_clients_are_listed(server: LocalServer) -> None:
    one, two, three = (visit(server, number) for number in (1001, 1002, 1003))
    two("SSUBSCRIBE", "s")
    ids = [int(about["id"]) for about in listing(one)]
    assert ids == [one.session.id, two.session.id, three.session.id]
    assert [about["addr"] for about in listing(one, "TYPE", "PUBSUB")] == ["127.0.0.1:1002"]
    assert len(listing(one, "TYPE", "normal")) == 2
    assert listing(one, "TYPE", "replica") == listing(one, "TYPE", "master") == []
    three("MONITOR")
    assert len(listing(one, "TYPE", "normal")) == 2
    wanted = [three.session.id, 999, one.session.id]
    found = [int(about["id"]) for about in listing(one, "ID", *wanted)]
    assert found == [three.session.id, one.session.id]
    assert isinstance(visit(server, 1, 3)("CLIENT", "LIST"), Verbatim)


# --- what a client says of itself ----------------------------------------------------------------


@pytest.mark.parametrize("name", [b"with space", b"new\nline", b"\xff", b"tab\t", b"\x7f"])
def test_names_that_are_refused(server: LocalServer, name: bytes) -> None:
    client = server.connect()
    bad = Error(b"ERR Client names cannot contain spaces, newlines or special characters.")
    assert client("CLIENT", "SETNAME", name) == bad
    assert client("HELLO", 3, "SETNAME", name) == bad
    assert client.session.protocol == 2
    assert client("CLIENT", "SETINFO", "Lib-Name", name) == Error(
        b"ERR Lib-Name cannot contain spaces, newlines or special characters."
    )
    assert client("CLIENT", "GETNAME") == NULL_BULK


def test_names_and_library(server: LocalServer) -> None:
    client = server.connect()
    assert client("CLIENT", "SETNAME", "me") == OK
    assert client("CLIENT", "GETNAME") == b"me"
    assert client("CLIENT", "SETNAME", "") == OK
    assert client("CLIENT", "GETNAME") == NULL_BULK
    assert client("CLIENT", "SETINFO", "LIB-NAME", "x") == OK
    assert client("CLIENT", "SETINFO", "LIB-NAME", "") == OK
    assert client.session.library_name == b""
    assert client("CLIENT", "SETINFO", "nosuch", "x") == Error(b"ERR Unrecognized option 'nosuch'")


def test_help(server: LocalServer) -> None:
    assert server.connect()("CLIENT", "HELP") == [Simple(line.encode()) for line in HELP]


def test_caching_without_tracking(server: LocalServer) -> None:
    for mode in ("YES", "x"):
        assert server.connect()("CLIENT", "CACHING", mode) == Error(
            b"ERR CLIENT CACHING can be called only when the client is in tracking mode with "
            b"OPTIN or OPTOUT mode enabled"
        )


def test_no_touch_leaves_the_clocks_alone(server: LocalServer) -> None:
    client, other = server.connect(), server.connect()
    client("SET", "key", "1")
    server.advance(100)
    client("CLIENT", "NO-TOUCH", "ON")
    client("GET", "key")
    client("MULTI")
    client("GET", "key")
    client("EXEC")
    assert other("OBJECT", "IDLETIME", "key") == 100
    client("TOUCH", "key")
    assert other("OBJECT", "IDLETIME", "key") == 0
    server.advance(100)
    client("MULTI")
    client("GET", "key")
    client("TOUCH", "key")
    client("EXEC")
    assert other("OBJECT", "IDLETIME", "key") == 0
    server.advance(100)
    other("GET", "key")
    assert other("OBJECT", "IDLETIME", "key") == 0


def test_replies_are_off_on_or_skipped(server: LocalServer) -> None:
    client = server.connect()
    client.send("CLIENT", "REPLY", "OFF")
    client.send("PING")
    client.send("NOSUCH")
    client.send("CLIENT", "REPLY", "SKIP")
    client.send("PING")
    assert not client.has_input()
    assert client("CLIENT", "REPLY", "ON") == OK
    client.send("CLIENT", "REPLY", "SKIP")
    client.send("PING", "skipped")
    assert client("PING", "x") == b"x"
    client.send("CLIENT", "REPLY", "SKIP")
    client.send("CLIENT", "REPLY", "SKIP")
    client.send("PING", "skipped")
    assert client("PING", "x") == b"x"
    assert client("CLIENT", "REPLY", "x") == SYNTAX_ERROR


def test_a_skipped_reply_may_come_late(server: LocalServer) -> None:
    client, other = server.connect(), server.connect()
    client.send("CLIENT", "REPLY", "SKIP")
    client.send("BLPOP", "list", 0)
    other("RPUSH", "list", "a")
    assert not client.has_input()
    assert client("PING", "x") == b"x"


# --- KILL and UNBLOCK ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "killed"),
    [
        (["ADDR", "127.0.0.1:1002"], {2}),
        (["LADDR", "127.0.0.1:6379"], {2, 3}),
        (["LADDR", "127.0.0.1:6379", "SKIPME", "no"], {1, 2, 3}),
        (["TYPE", "pubsub"], {3}),
        (["TYPE", "normal", "SKIPME", "yes"], {2}),
        (["TYPE", "replica"], set()),
        (["TYPE", "master"], set()),
        (["USER", "default"], {2, 3}),
        (["ID", "2"], {2}),
        (["ID", "2", "TYPE", "pubsub"], set()),
        (["ID", "2", "ID", "3"], {3}),
        (["ID", "1"], set()),
        (["ID", "1", "SKIPME", "NO"], {1}),
        (["SKIPME", "YES"], {2, 3}),
    ],
)
def test_kill_by_options(server: LocalServer, arguments: list[str], killed: set[int]) -> None:
    clients = [visit(server, 1001), visit(server, 1002), visit(server, 1003)]
    clients[2]("SUBSCRIBE", "a")
    assert [client.session.id for client in clients] == [1, 2, 3]
    assert clients[0]("CLIENT", "KILL", *arguments) == len(killed)
    gone = {client.session.id for client in clients if not is_open(client)}
    assert gone == killed - {1}
    # The one that asks still gets its reply; the connection ends after that.
    assert clients[0].session.closing is (1 in killed)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["1.2.3.4:5"], "ERR No such client"),
        (["ID"], "ERR No such client"),
        (["ID", "0"], "ERR client-id should be greater than 0"),
        (["ID", "x"], "ERR client-id should be greater than 0"),
        (["ID", "-1"], "ERR client-id should be greater than 0"),
        (["ID", "2", "ADDR"], "ERR syntax error"),
        (["ID", "x", "ADDR"], "ERR client-id should be greater than 0"),
        (["TYPE", "x"], "ERR Unknown client type 'x'"),
        (["USER", "x"], "ERR No such user 'x'"),
        (["SKIPME", "x"], "ERR syntax error"),
        (["MAXAGE", "1"], "ERR syntax error"),
        (["ID", "2", "x", "y"], "ERR syntax error"),
    ],
)
def test_kill_refused(server: LocalServer, arguments: list[str], error: str) -> None:
    client, other = visit(server, 1001), visit(server, 1002)
    assert client("CLIENT", "KILL", *arguments) == Error(error.encode())
    assert is_open(other)


def test_kill_by_address(server: LocalServer) -> None:
    client, other = visit(server, 1001), visit(server, 1002)
    assert client("CLIENT", "KILL", "127.0.0.1:1002") == OK
    assert not is_open(other)
    assert client("CLIENT", "KILL", "127.0.0.1:1001") == OK
    assert client.session.closing


def test_a_killed_client_no_longer_waits(server: LocalServer) -> None:
    client, other = visit(server, 1001), visit(server, 1002)
    other.send("BLPOP", "list", 0)
    client("CLIENT", "KILL", "127.0.0.1:1002")
    assert client("RPUSH", "list", "a") == 1
    assert client("LLEN", "list") == 1


def test_unblock(server: LocalServer) -> None:
    client, waiting = server.connect(), server.connect()
    number = waiting.session.id
    assert client("CLIENT", "UNBLOCK", number) == 0
    assert client("CLIENT", "UNBLOCK", 999) == 0
    waiting.send("BRPOPLPUSH", "list", "other", 0)
    assert client("CLIENT", "UNBLOCK", number, "timeout") == 1
    assert waiting.read() == NULL_ARRAY
    waiting.send("BLPOP", "list", 0)
    assert client("CLIENT", "UNBLOCK", number, "ERROR") == 1
    assert waiting.read() == Error(b"UNBLOCKED client unblocked via CLIENT UNBLOCK")
    assert client("CLIENT", "UNBLOCK", number, "x") == Error(
        b"ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR"
    )
    assert client("CLIENT", "UNBLOCK", "x") == Error(b"ERR value is not an integer or out of range")


# --- PAUSE ---------------------------------------------------------------------------------------


def pause_of(server: LocalServer) -> Pause:
    """The component."""
    return next(part for part in server.engine.components if isinstance(part, Pause))


def tick(server: LocalServer, seconds: float) -> None:
    """Let time pass and the periodic work be done."""
    server.advance(seconds)
    for component in server.engine.components:
        component.tick(server.engine.ended_ns)


def test_writes_are_put_off(server: LocalServer) -> None:
    client, other = server.connect(), server.connect()
    assert client("CLIENT", "PAUSE", 1000, "WRITE") == OK
    assert other("GET", "key") == NULL_BULK
    other.send("SET", "key", "1")
    assert other.session.blocked is not None
    assert client("CLIENT", "UNBLOCK", other.session.id) == 0
    assert client("EXISTS", "key") == 0
    tick(server, 0.9)
    assert not other.has_input()
    tick(server, 0.2)
    assert other.read() == OK
    assert client("EXISTS", "key") == 1
    assert server.engine.gate == 0


def test_everything_is_put_off(server: LocalServer) -> None:
    client, other = server.connect(), server.connect()
    client("CLIENT", "PAUSE", 1000)
    other.send("PING")
    client.send("CLIENT", "UNPAUSE")  # even that
    assert not client.has_input()
    tick(server, 1.1)
    assert other.read() == PONG
    assert client.read() == OK


def test_errors_are_not_put_off(server: LocalServer) -> None:
    client, other = server.connect(), server.connect()
    client("CLIENT", "PAUSE", 1000)
    assert isinstance(other("NOSUCH"), Error)
    assert isinstance(other("GET"), Error)


def test_unpause_serves_in_order(server: LocalServer) -> None:
    client = server.connect()
    others = [server.connect() for _ in range(3)]
    client("CLIENT", "PAUSE", 10_000, "WRITE")
    for other, value in zip(others, "abc", strict=True):
        other.send("RPUSH", "list", value)
    assert client("CLIENT", "UNPAUSE") == OK
    assert [other.read() for other in others] == [1, 2, 3]
    assert client("LRANGE", "list", 0, -1) == [b"a", b"b", b"c"]
    assert client("CLIENT", "UNPAUSE") == OK


def test_transactions_that_write_are_put_off(server: LocalServer) -> None:
    client, writer, reader = server.connect(), server.connect(), server.connect()
    writer("MULTI")
    writer("SET", "key", "1")
    reader("MULTI")
    reader("GET", "key")
    client("CLIENT", "PAUSE", 10_000, "WRITE")
    assert reader("EXEC") == [NULL_BULK]
    writer.send("EXEC")
    assert writer.session.blocked is not None
    reader("MULTI")
    reader.send("SET", "key", "2")
    assert reader.session.blocked is not None
    client("CLIENT", "UNPAUSE")
    assert writer.read() == [OK]
    assert reader.read() == QUEUED
    assert reader("EXEC") == [OK]


def test_publish_is_put_off(server: LocalServer) -> None:
    client, other = server.connect(), server.connect()
    client("CLIENT", "PAUSE", 10_000, "WRITE")
    other.send("PUBLISH", "a", "x")
    assert other.session.blocked is not None
    client("CLIENT", "UNPAUSE")
    assert other.read() == 0


def test_a_transaction_may_pause(server: LocalServer) -> None:
    client, other = server.connect(), server.connect()
    client("MULTI")
    client("CLIENT", "PAUSE", 10_000, "WRITE")
    client("SET", "key", "1")
    assert client("EXEC") == [OK, OK]
    other.send("SET", "key", "2")
    assert other.session.blocked is not None
    client("CLIENT", "UNPAUSE")
    assert other.read() == OK


def test_the_longer_and_stricter_pause_holds(server: LocalServer) -> None:
    client, other = server.connect(), server.connect()
    client("CLIENT", "PAUSE", 10_000, "WRITE")
    client("CLIENT", "PAUSE", 100, "WRITE")
    tick(server, 1)
    other.send("SET", "key", "1")
    assert other.session.blocked is not None
    client("CLIENT", "PAUSE", 100, "ALL")
    client.send("PING")
    assert client.session.blocked is not None
    tick(server, 1)
    assert client.session.blocked is not None
    tick(server, 9)
    assert client.read() == PONG
    assert other.read() == OK


def test_a_pause_of_no_time(server: LocalServer) -> None:
    client = server.connect()
    client("CLIENT", "PAUSE", 0)
    assert client("PING") == PONG


def test_nothing_expires_in_a_pause(server: LocalServer) -> None:
    client, listener = server.connect(), server.connect()
    listener("PSUBSCRIBE", "__key*")
    client("SET", "key", "1", "PX", 100)
    client("CONFIG", "SET", "notify-keyspace-events", "KEx")
    client("CLIENT", "PAUSE", 10_000, "WRITE")
    tick(server, 1)
    assert client("GET", "key") == NULL_BULK
    assert client("DBSIZE") == 1
    assert not listener.has_input()
    client("CLIENT", "UNPAUSE")
    assert client("GET", "key") == NULL_BULK
    assert client("DBSIZE") == 0
    assert listener.has_input()


def test_who_has_gone_is_not_served_afterwards(server: LocalServer) -> None:
    client, other = server.connect(), server.connect()
    client("CLIENT", "PAUSE", 10_000, "WRITE")
    other.send("SET", "key", "1")
    other.close()
    client("CLIENT", "UNPAUSE")
    assert client("EXISTS", "key") == 0


def test_paused_again_by_one_that_was_put_off(server: LocalServer) -> None:
    client, one, other = (server.connect() for _ in range(3))
    client("CLIENT", "PAUSE", 1000, "ALL")
    one.send("CLIENT", "PAUSE", 1000, "WRITE")
    other.send("SET", "key", "1")
    tick(server, 1.1)
    assert one.read() == OK
    assert other.session.blocked is not None
    tick(server, 1.1)
    assert other.read() == OK


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["x"], "ERR timeout is not an integer or out of range"),
        (["1.5"], "ERR timeout is not an integer or out of range"),
        (["-1"], "ERR timeout is negative"),
        (["9223372036854775807"], "ERR timeout is out of range"),
        (["10", "x"], "ERR CLIENT PAUSE mode must be WRITE or ALL"),
    ],
)
def test_pause_refused(server: LocalServer, arguments: list[str], error: str) -> None:
    assert server.connect()("CLIENT", "PAUSE", *arguments) == Error(error.encode())
    assert pause_of(server).mode == 0


# --- AUTH, HELLO, RESET, protected mode ----------------------------------------------------------

WRONGPASS = Error(b"WRONGPASS invalid username-password pair or user is disabled.")
NOAUTH = Error(b"NOAUTH Authentication required.")


def is_stranger(client: Arrival) -> bool:
    """Whether the smaller limits hold for what the client sends."""
    return client.connection.parser.stranger


class Arrival(Visitor):
    """A client that has been greeted as one that connects; `welcome` tells whether it may stay."""

    def __init__(self, server: LocalServer, address: bytes = b"127.0.0.1:1001") -> None:
        super().__init__(server, address)
        self.ends = socket.socketpair()
        hub = server.server.hub
        self.connection = Connection(hub, self.ends[0], self.session)
        self.session.fd = self.connection.fd
        assert hub.greet is not None
        self.welcome = hub.greet(self.connection)
        hub.connections[self.connection.fd] = self.connection

    def close(self) -> None:
        """The client goes."""
        super().close()
        self.connection.hub.connections.pop(self.session.fd, None)
        for end in self.ends:
            end.close()


@pytest.fixture
def locked() -> Iterator[LocalServer]:
    """An engine with a password."""
    with LocalServer("--requirepass", "secret") as local:
        yield local


def test_strangers(locked: LocalServer) -> None:
    client = Arrival(locked)
    assert client.welcome
    assert is_stranger(client)
    for request in (["GET", "x"], ["MULTI"], ["PING"], ["SUBSCRIBE", "a"]):
        assert client(*request) == NOAUTH
    assert client("EXEC") == Error(
        b"EXECABORT Transaction discarded because of: NOAUTH Authentication required."
    )
    assert isinstance(client("NOSUCH"), Error)
    assert client("AUTH", "wrong") == WRONGPASS
    assert client("AUTH", "nobody", "secret") == WRONGPASS
    assert client("GET", "x") == NOAUTH
    assert client("AUTH", "secret") == OK
    assert client.session.gate == 0
    assert client("GET", "x") == NULL_BULK
    # A mistake does not send a client out again.
    assert client("AUTH", "wrong") == WRONGPASS
    assert client("GET", "x") == NULL_BULK
    assert client("RESET") == Simple(b"RESET")
    assert client("GET", "x") == NOAUTH
    assert is_stranger(client)
    assert client("AUTH", "default", "secret") == OK
    assert client("QUIT") == OK
    client.close()


def test_hello_of_strangers(locked: LocalServer) -> None:
    client = Arrival(locked)
    first = client("HELLO", 3)
    assert isinstance(first, Error)
    assert first.text.startswith(b"NOAUTH HELLO must be called with the client already")
    assert client.session.protocol == 2
    assert client("HELLO", 3, "AUTH", "default", "wrong") == WRONGPASS
    assert client.session.protocol == 2
    assert isinstance(client("HELLO", 3, "SETNAME", "me", "AUTH", "default", "secret"), Map)
    assert client.session.name == b"me"
    client.close()


def test_a_password_that_comes_and_goes(server: LocalServer) -> None:
    early = Arrival(server)
    assert early("CONFIG", "SET", "requirepass", "secret") == OK
    late = Arrival(server)
    assert early("GET", "x") == NULL_BULK
    assert late("GET", "x") == NOAUTH
    assert early("CONFIG", "SET", "requirepass", "") == OK
    assert late("GET", "x") == NULL_BULK
    assert not is_stranger(late)
    assert early("CONFIG", "SET", "requirepass", "other") == OK
    assert late("GET", "x") == NOAUTH
    for client in (early, late):
        client.close()


def test_auth_without_a_password(server: LocalServer) -> None:
    client = server.connect()
    assert client("AUTH", "x") == Error(
        b"ERR AUTH <password> called without any password configured for the default user. "
        b"Are you sure your configuration is correct?"
    )
    assert client("AUTH", "default", "anything") == OK
    assert client("AUTH", "nobody", "x") == WRONGPASS
    assert client("AUTH", "a", "b", "c") == SYNTAX_ERROR


@pytest.mark.parametrize(
    ("address", "welcome"),
    [
        (b"127.0.0.1:1", True),
        (b"127.1.2.3:1", True),
        (b"[::1]:1", True),
        (b"10.0.0.1:1", False),
        (b"[fe80::1]:1", False),
        (b"[::10]:1", False),
    ],
)
def test_protected_mode(server: LocalServer, address: bytes, welcome: bool) -> None:
    client = Arrival(server, address)
    assert client.welcome is welcome
    if not welcome:
        reply = client.read()
        assert isinstance(reply, Error)
        assert reply.text.startswith(b"DENIED Redis is running in protected mode")
    for name, value in (("protected-mode", "no"), ("requirepass", "secret")):
        server.connect()("CONFIG", "SET", name, value)
        other = Arrival(server, address)
        assert other.welcome
        server.connect()("CONFIG", "SET", "protected-mode", "yes", "requirepass", "")
        other.close()
    client.close()


def test_reset(server: LocalServer) -> None:
    client = server.connect(3)
    client("CLIENT", "SETNAME", "me")
    client("CLIENT", "SETINFO", "lib-name", "x")
    client("SELECT", 3)
    client("CLIENT", "NO-EVICT", "ON")
    client("CLIENT", "NO-TOUCH", "ON")
    client("WATCH", "key")
    client("MONITOR")
    client("SUBSCRIBE", "a")
    client("MULTI")
    client.send("CLIENT", "REPLY", "OFF")  # queued
    while client.has_input():
        client.read()
    assert client("RESET") == Simple(b"RESET")
    session = client.session
    assert (session.protocol, session.db.index, session.name) == (2, 0, b"")
    assert session.gate == 0
    assert (session.no_evict, session.no_touch, session.monitor) == (False, False, False)
    assert not session.watches
    assert session.library_name == b"x"
    assert listing(client)[0]["flags"] == "N"
    assert server.engine.gate == 0
    client.send("CLIENT", "REPLY", "OFF")
    assert client("RESET") == Simple(b"RESET")
    assert client("PING") == PONG


# --- MONITOR -------------------------------------------------------------------------------------


def lines_of(client: LocalClient) -> list[str]:
    """What a monitor has been shown, without the time."""
    found = []
    while client.has_input():
        line = client.read()
        assert isinstance(line, Simple)
        when, rest = line.text.decode().split(" ", 1)
        assert len(when.split(".")[1]) == 6
        found.append(rest)
    return found


def test_monitor_shows_commands(server: LocalServer) -> None:
    monitor, client = server.connect(), visit(server, 1001)
    assert monitor("MONITOR") == OK
    client("SET", "key", b'a\x00"\\\n\r\t\a\b\xff \x7f')
    client("SELECT", 3)
    client("NOSUCH")
    client("GET")
    client("CONFIG", "GET", "x")
    client("INCR", "key")
    client("MULTI")
    client("GET", "key")
    client("EXEC")
    client("AUTH", "default", "secret")
    client("HELLO", "2", "AUTH", "default", "secret", "SETNAME", "me")
    client.session.unix_socket = True
    client.session.address = b"/tmp/socket:0"
    client("PING")
    origin = "[0 127.0.0.1:1001]"
    there = "[3 127.0.0.1:1001]"
    assert lines_of(monitor) == [
        origin + r' "SET" "key" "a\x00\"\\\n\r\t\a\b\xff \x7f"',
        f'{there} "SELECT" "3"',
        f'{there} "INCR" "key"',
        f'{there} "MULTI"',
        f'{there} "GET" "key"',
        f'{there} "EXEC"',
        f'{there} "AUTH" "(redacted)" "(redacted)"',
        f'{there} "HELLO" "2" "AUTH" "(redacted)" "(redacted)" "SETNAME" "me"',
        '[3 unix:/tmp/socket] "PING"',
    ]


def test_monitor_shows_a_waiting_command_once(server: LocalServer) -> None:
    monitor, waiting, client = server.connect(), visit(server, 1001), visit(server, 1002)
    monitor("MONITOR")
    waiting.send("BLPOP", "list", 0)
    client("RPUSH", "list", "a")
    assert lines_of(monitor) == [
        '[0 127.0.0.1:1001] "BLPOP" "list" "0"',
        '[0 127.0.0.1:1002] "RPUSH" "list" "a"',
    ]


def test_monitors_stay_out_of_the_keyspace(server: LocalServer) -> None:
    monitor, client = visit(server, 1001), visit(server, 1002)
    outside = Error(b"ERR Replica can't interact with the keyspace")
    monitor("MONITOR")
    assert monitor("GET", "x") == outside
    assert monitor("PUBLISH", "x", "y") == outside
    monitor.send("PING")
    assert monitor.read() == PONG  # the reply first
    assert lines_of(monitor) == ['[0 127.0.0.1:1001] "PING"']
    monitor.send("MONITOR")
    assert not monitor.has_input()
    client("CLIENT", "PAUSE", 10_000)
    assert monitor("PING") == PONG


def test_a_silent_monitor_is_shown_nothing(server: LocalServer) -> None:
    monitor, client = server.connect(), server.connect()
    monitor.send("CLIENT", "REPLY", "OFF")
    monitor.send("MONITOR")
    client("PING")
    assert not monitor.has_input()


def test_no_monitor_in_a_transaction(server: LocalServer) -> None:
    client = server.connect()
    client("MULTI")
    client("MONITOR")
    assert client("EXEC") == [Error(b"ERR MONITOR isn't allowed for DENY BLOCKING client")]
    assert server.engine.gate == 0


@pytest.mark.parametrize("end", ["RESET", "close"])
def test_the_last_monitor_costs_nothing_more(server: LocalServer, end: str) -> None:
    one, other = server.connect(), server.connect()
    one("MONITOR")
    other("MONITOR")
    for client in (one, other):
        if end == "close":
            client.close()
        else:
            client.send("RESET")
    assert server.engine.gate == 0


def test_quoting() -> None:
    assert quote(b"plain text") == b'"plain text"'
    assert quote(b"") == b'""'
    for byte in range(256):
        shown = quote(bytes([byte]))
        assert shown.isascii()
        assert len(shown) <= 6
