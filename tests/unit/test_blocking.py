"""Clients that wait: who is served, in which order, what ends a wait, what goes into the log."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from node.command import Command, Group
from node.resp import Error as ErrorReply
from node.resp import Reply as HandlerReply
from node.session import Session
from node.values.list import List
from tests.inprocess import LocalClient, LocalServer, follow_log, read_log
from tests.wire import NULL, NULL_ARRAY, NULL_BULK, OK, QUEUED, Error, Reply

WRONG_TYPE = Error(b"WRONGTYPE Operation against a key holding the wrong kind of value")
UNBLOCKED = Error(b"UNBLOCKED client unblocked via CLIENT UNBLOCK")


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with LocalServer() as server:
        yield server


@pytest.fixture
def pusher(server: LocalServer) -> LocalClient:
    """The client that makes keys appear."""
    return server.connect()


def wait(server: LocalServer, *arguments: str | int | float, protocol: int = 2) -> LocalClient:
    """A new client that waits in a command."""
    client = server.connect(protocol)
    client.send(*arguments)
    assert client.session.blocked is not None
    assert not client.has_input()
    return client


def is_waiting(client: LocalClient) -> bool:
    """Whether a client waits and has no reply."""
    waiting = client.session.blocked is not None
    assert waiting is not client.has_input()
    return waiting


def run_transaction(client: LocalClient, *requests: list[str | int]) -> list[Reply]:
    """MULTI, the requests, EXEC: its replies."""
    assert client("MULTI") == OK
    for request in requests:
        assert client(*request) == QUEUED
    replies = client("EXEC")
    assert isinstance(replies, list)
    return replies


# --- being served --------------------------------------------------------------------------------


def test_no_wait_where_there_is_something(server: LocalServer, pusher: LocalClient) -> None:
    pusher("RPUSH", "k", "a", "b", "c", "d")
    assert pusher("BLPOP", "k", 0) == [b"k", b"a"]
    assert pusher("BRPOP", "missing", "k", 0) == [b"k", b"d"]
    assert pusher("BLMPOP", 0, 2, "missing", "k", "LEFT", "COUNT", 10) == [b"k", [b"b", b"c"]]
    assert pusher("EXISTS", "k") == 0


def test_oldest_first(server: LocalServer, pusher: LocalClient) -> None:
    clients = [wait(server, "BLPOP", "k", 0) for _ in range(4)]
    assert pusher("RPUSH", "k", "a", "b") == 2
    assert [client.read() for client in clients[:2]] == [[b"k", b"a"], [b"k", b"b"]]
    assert is_waiting(clients[2])
    assert is_waiting(clients[3])
    assert pusher("EXISTS", "k") == 0
    # Whoever comes again stands at the end.
    clients[0].send("BLPOP", "k", 0)
    pusher("LPUSH", "k", "c", "d", "e")
    assert clients[2].read() == [b"k", b"e"]
    assert clients[3].read() == [b"k", b"d"]
    assert clients[0].read() == [b"k", b"c"]
    assert not server.engine.blocking.waits
    assert not server.keyspace.databases[0].waiters


def test_the_reply_of_the_push_counts_what_is_taken_at_once(
    server: LocalServer, pusher: LocalClient
) -> None:
    client = wait(server, "BLPOP", "k", 0)
    assert pusher("RPUSH", "k", "a") == 1
    assert client.read() == [b"k", b"a"]
    assert pusher("LLEN", "k") == 0


def test_what_is_left_stays(server: LocalServer, pusher: LocalClient) -> None:
    client = wait(server, "BRPOP", "k", 0)
    pusher("RPUSH", "k", "a", "b", "c")
    assert client.read() == [b"k", b"c"]
    assert pusher("LRANGE", "k", 0, -1) == [b"a", b"b"]


def test_counts(server: LocalServer, pusher: LocalClient) -> None:
    first = wait(server, "BLMPOP", 0, 1, "k", "RIGHT", "COUNT", 2)
    second = wait(server, "BLMPOP", 0, 1, "k", "LEFT", "COUNT", 10)
    third = wait(server, "BLMPOP", 0, 1, "k", "LEFT")
    pusher("RPUSH", "k", "a", "b", "c", "d", "e")
    assert first.read() == [b"k", [b"e", b"d"]]
    assert second.read() == [b"k", [b"a", b"b", b"c"]]
    assert is_waiting(third)


def test_several_keys(server: LocalServer, pusher: LocalClient) -> None:
    client = wait(server, "BLPOP", "k1", "k2", "k3", 0)
    pusher("RPUSH", "k2", "a")
    assert client.read() == [b"k2", b"a"]
    pusher("RPUSH", "k1", "b")
    assert pusher("LLEN", "k1") == 1


def test_the_same_key_twice(server: LocalServer, pusher: LocalClient) -> None:
    client = wait(server, "BLPOP", "k", "k", 0)
    pusher("RPUSH", "k", "a")
    assert client.read() == [b"k", b"a"]
    assert not server.keyspace.databases[0].waiters


def test_the_first_named_of_keys_that_appear_together(
    server: LocalServer, pusher: LocalClient
) -> None:
    # The command is run again as a whole, as since 7.2; before, the key that came first won.
    client = wait(server, "BLPOP", "k1", "k2", 0)
    assert run_transaction(pusher, ["RPUSH", "k2", "b"], ["RPUSH", "k1", "a"]) == [1, 1]
    assert client.read() == [b"k1", b"a"]
    assert pusher("LLEN", "k2") == 1


def test_waiters_of_different_keys_are_served_as_the_keys_came(
    server: LocalServer, pusher: LocalClient
) -> None:
    log = follow_log(server)
    first = wait(server, "BLPOP", "k1", 0)
    second = wait(server, "BLPOP", "k2", 0)
    run_transaction(pusher, ["RPUSH", "k2", "b"], ["RPUSH", "k1", "a"])
    assert first.read() == [b"k1", b"a"]
    assert second.read() == [b"k2", b"b"]
    assert [argv[0:2] for argv in read_log(log)[-2:]] == [[b"LPOP", b"k2"], [b"LPOP", b"k1"]]


def test_databases_are_apart(server: LocalServer, pusher: LocalClient) -> None:
    client = wait(server, "BLPOP", "k", 0)
    pusher("SELECT", 1)
    pusher("RPUSH", "k", "a")
    assert is_waiting(client)
    assert pusher("LLEN", "k") == 1


@pytest.mark.parametrize(
    "request_",
    [
        ["LPUSH", "k", "x"],
        ["RENAME", "full", "k"],
        ["COPY", "full", "k"],
        ["SORT", "full", "ALPHA", "STORE", "k"],
        ["LMOVE", "full", "k", "LEFT", "RIGHT"],
        ["RPOPLPUSH", "full", "k"],
    ],
    ids=lambda request_: str(request_[0]),
)
def test_ways_to_appear(
    server: LocalServer, pusher: LocalClient, request_: list[str | int]
) -> None:
    pusher("RPUSH", "full", "x")
    client = wait(server, "BLPOP", "k", 0)
    pusher(*request_)
    assert client.read() == [b"k", b"x"]


def test_moved_and_swapped_in(server: LocalServer, pusher: LocalClient) -> None:
    pusher("SELECT", 1)
    pusher("RPUSH", "k1", "x")
    pusher("RPUSH", "k2", "y")
    moved = wait(server, "BLPOP", "k1", 0)
    swapped = wait(server, "BLPOP", "k2", 0)
    assert pusher("MOVE", "k1", 0) == 1
    assert moved.read() == [b"k1", b"x"]
    assert is_waiting(swapped)
    assert pusher("SWAPDB", 0, 1) == OK
    assert swapped.read() == [b"k2", b"y"]


# --- not being served ----------------------------------------------------------------------------


def test_a_key_of_another_type(server: LocalServer, pusher: LocalClient) -> None:
    client = wait(server, "BLPOP", "k", 0)
    popper = wait(server, "BZPOPMIN", "k", 0)
    pusher("SET", "k", "x")
    pusher("DEL", "k")
    pusher("SADD", "k", "x")
    assert is_waiting(client)
    assert is_waiting(popper)
    pusher("DEL", "k")
    pusher("ZADD", "k", 1, "x")
    assert is_waiting(client)
    assert popper.read() == [b"k", b"x", b"1"]
    pusher("RPUSH", "k", "a")
    assert client.read() == [b"k", b"a"]


def test_another_key_of_another_type(server: LocalServer, pusher: LocalClient) -> None:
    # Run again, the command meets the string first, and it is what its reply is about.
    client = wait(server, "BLPOP", "k1", "k2", 0)
    pusher("SET", "k1", "x")
    assert is_waiting(client)
    pusher("RPUSH", "k2", "a")
    assert client.read() == WRONG_TYPE
    assert pusher("LLEN", "k2") == 1


def test_wrong_type_at_once(server: LocalServer, pusher: LocalClient) -> None:
    pusher("SET", "k", "x")
    assert pusher("BLPOP", "missing", "k", 0) == WRONG_TYPE
    assert pusher("BLMPOP", 0, 1, "k", "LEFT") == WRONG_TYPE
    assert pusher("BLMOVE", "k", "l", "LEFT", "LEFT", 0) == WRONG_TYPE
    assert pusher.session.blocked is None


def test_a_destination_of_another_type(server: LocalServer, pusher: LocalClient) -> None:
    first = wait(server, "BLMOVE", "k", "d", "LEFT", "LEFT", 0)
    second = wait(server, "BRPOPLPUSH", "k", "other", 0)
    pusher("SET", "d", "x")
    assert is_waiting(first)
    pusher("RPUSH", "k", "a")
    # The first is told, and the element goes to the next.
    assert first.read() == WRONG_TYPE
    assert second.read() == b"a"
    assert pusher("LRANGE", "other", 0, -1) == [b"a"]


def test_gone_before_the_end_of_the_transaction(server: LocalServer, pusher: LocalClient) -> None:
    client = wait(server, "BLPOP", "k", 0)
    run_transaction(pusher, ["RPUSH", "k", "a"], ["LPOP", "k"])
    run_transaction(pusher, ["RPUSH", "k", "a"], ["PEXPIREAT", "k", 1])
    run_transaction(pusher, ["RPUSH", "k", "a"], ["FLUSHALL"])
    run_transaction(pusher, ["RPUSH", "k", "a"], ["DEL", "k"], ["SET", "k", "x"])
    assert is_waiting(client)
    pusher("DEL", "k")
    run_transaction(pusher, ["RPUSH", "k", "a"], ["DEL", "k"], ["RPUSH", "k", "b"])
    assert client.read() == [b"k", b"b"]


def test_a_list_that_grows_in_a_transaction_is_served_after_it(
    server: LocalServer, pusher: LocalClient
) -> None:
    client = wait(server, "BLPOP", "k", 0)
    replies = run_transaction(pusher, ["RPUSH", "k", "a"], ["LPUSH", "k", "b"], ["LLEN", "k"])
    assert replies == [1, 2, 2]
    assert client.read() == [b"k", b"b"]


def test_inside_a_transaction_nobody_waits(server: LocalServer, pusher: LocalClient) -> None:
    replies = run_transaction(
        pusher,
        ["BLPOP", "k", 0],
        ["BLMPOP", 0, 1, "k", "LEFT"],
        ["BLMOVE", "k", "l", "LEFT", "LEFT", 0],
        ["BRPOPLPUSH", "k", "l", 0],
        ["RPUSH", "k", "a"],
        ["BRPOP", "k", 0],
    )
    assert replies == [NULL_ARRAY, NULL_ARRAY, NULL_BULK, NULL_BULK, 1, [b"k", b"a"]]
    assert not server.engine.blocking.waits


# --- chains --------------------------------------------------------------------------------------


def test_moved_elements_serve_the_next(server: LocalServer, pusher: LocalClient) -> None:
    log = follow_log(server)
    last = wait(server, "BLPOP", "c", 0)
    second = wait(server, "BLMOVE", "b", "c", "RIGHT", "LEFT", 0)
    first = wait(server, "BRPOPLPUSH", "a", "b", 0)
    assert pusher("RPUSH", "a", "x") == 1
    assert first.read() == b"x"
    assert second.read() == b"x"
    assert last.read() == [b"c", b"x"]
    assert pusher("DBSIZE") == 0
    assert read_log(log) == [
        [b"RPUSH", b"a", b"x"],
        [b"RPOPLPUSH", b"a", b"b"],
        [b"LMOVE", b"b", b"c", b"RIGHT", b"LEFT"],
        [b"LPOP", b"c"],
    ]


def test_a_ring(server: LocalServer, pusher: LocalClient) -> None:
    clients = [
        wait(server, "BLMOVE", "a", "b", "LEFT", "RIGHT", 0),
        wait(server, "BLMOVE", "b", "c", "LEFT", "RIGHT", 0),
        wait(server, "BLMOVE", "c", "a", "LEFT", "RIGHT", 0),
    ]
    pusher("RPUSH", "a", "x")
    assert [client.read() for client in clients] == [b"x", b"x", b"x"]
    assert pusher("LRANGE", "a", 0, -1) == [b"x"]


def test_onto_itself(server: LocalServer, pusher: LocalClient) -> None:
    clients = [wait(server, "BLMOVE", "a", "a", "LEFT", "RIGHT", 0) for _ in range(3)]
    pusher("RPUSH", "a", "x", "y")
    assert [client.read() for client in clients] == [b"x", b"y", b"x"]
    assert pusher("LRANGE", "a", 0, -1) == [b"y", b"x"]


def test_an_element_passes_those_who_take_and_give_back(
    server: LocalServer, pusher: LocalClient
) -> None:
    giver = wait(server, "BLMOVE", "a", "b", "LEFT", "RIGHT", 0)
    taker = wait(server, "BLPOP", "b", "a", 0)
    pusher("RPUSH", "a", "x", "y")
    assert giver.read() == b"x"
    # Both keys are there by now; the key that appeared first is looked at first, but the command
    # takes from the key that it names first.
    assert taker.read() == [b"b", b"x"]
    assert pusher("LRANGE", "a", 0, -1) == [b"y"]


# --- the end of waiting --------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [2, 3])
def test_timeout(server: LocalServer, protocol: int) -> None:
    nothing = NULL_ARRAY if protocol == 2 else NULL
    clients = [
        wait(server, "BLPOP", "k", "0.001", protocol=protocol),
        wait(server, "BLMPOP", "0.1", 1, "k", "LEFT", protocol=protocol),
        wait(server, "BLMOVE", "k", "l", "LEFT", "LEFT", 1, protocol=protocol),
        wait(server, "BRPOPLPUSH", "k", "l", "1.5", protocol=protocol),
    ]
    for late, seconds in enumerate([0.001, 0.1, 1, 1.5]):
        server.advance(seconds - 0.0005 - server.clock.ns / 1e9 + 1)
        assert all(map(is_waiting, clients[late:]))
        server.advance(0.0005)
        assert clients[late].read() == nothing
        assert clients[late].woken == 1
    assert server.engine.blocking.next_deadline == 0
    assert not server.keyspace.databases[0].waiters


def test_timeouts_are_rounded_up_to_milliseconds(server: LocalServer) -> None:
    client = wait(server, "BLPOP", "k", "0.0001")
    assert server.engine.blocking.next_deadline - server.clock.ns == 1_000_000
    server.advance(0.001)
    assert client.read() == NULL_ARRAY


def test_without_a_timeout(server: LocalServer) -> None:
    client = wait(server, "BLPOP", "k", "0")
    assert server.engine.blocking.next_deadline == 0
    server.advance(1e9)
    assert is_waiting(client)


def test_hours(server: LocalServer, pusher: LocalClient) -> None:
    client = wait(server, "BLPOP", "k", "9000000000000000")
    server.advance(1e9)
    assert is_waiting(client)
    pusher("RPUSH", "k", "a")
    assert client.read() == [b"k", b"a"]


def test_the_earliest_deadline_is_told(server: LocalServer) -> None:
    told: list[int] = []
    blocking = server.engine.blocking
    blocking.deadline_changed = lambda: told.append(blocking.next_deadline - server.clock.ns)
    wait(server, "BLPOP", "k", 10)
    wait(server, "BLPOP", "k", 20)
    wait(server, "BLPOP", "k", 0)
    wait(server, "BLPOP", "k", 5)
    assert told == [10_000_000_000, 5_000_000_000]
    server.advance(5)
    assert blocking.next_deadline - server.clock.ns == 5_000_000_000


@pytest.mark.parametrize(
    ("timeout", "error"),
    [
        ("x", b"ERR timeout is not a float or out of range"),
        ("nan", b"ERR timeout is not a float or out of range"),
        ("", b"ERR timeout is not a float or out of range"),
        ("1e5000", b"ERR timeout is not a float or out of range"),
        ("-1", b"ERR timeout is negative"),
        ("-inf", b"ERR timeout is negative"),
        ("inf", b"ERR timeout is out of range"),
        ("1e300", b"ERR timeout is out of range"),
        ("9223372036854775", b"ERR timeout is out of range"),
        ("9223372036854775807", b"ERR timeout is out of range"),
    ],
)
def test_timeouts_that_are_none(pusher: LocalClient, timeout: str, error: bytes) -> None:
    # Even where there is nothing to wait for.
    pusher("RPUSH", "k", "a")
    for request in (
        ["BLPOP", "k", timeout],
        ["BRPOP", "missing", timeout],
        ["BLMPOP", timeout, "1", "k", "LEFT"],
        ["BLMOVE", "k", "k", "LEFT", "LEFT", timeout],
        ["BRPOPLPUSH", "k", "k", timeout],
    ):
        assert pusher(*request) == Error(error)


def test_unblocked(server: LocalServer, pusher: LocalClient) -> None:
    first = wait(server, "BLPOP", "k", 100)
    second = wait(server, "BLMOVE", "k", "l", "LEFT", "LEFT", 0)
    assert pusher("CLIENT", "UNBLOCK", pusher.session.id) == 0
    assert pusher("CLIENT", "UNBLOCK", 12345) == 0
    assert pusher("CLIENT", "UNBLOCK", first.session.id) == 1
    assert pusher("CLIENT", "UNBLOCK", second.session.id, "ERROR") == 1
    assert first.read() == NULL_ARRAY
    assert second.read() == UNBLOCKED
    assert pusher("CLIENT", "UNBLOCK", first.session.id) == 0
    pusher("RPUSH", "k", "a")
    assert pusher("LLEN", "k") == 1
    assert not server.engine.blocking.waits
    assert server.engine.blocking.next_deadline == 0


def test_unblocked_in_the_transaction_that_would_have_served(
    server: LocalServer, pusher: LocalClient
) -> None:
    client = wait(server, "BLPOP", "k", 0)
    run_transaction(pusher, ["RPUSH", "k", "a"], ["CLIENT", "UNBLOCK", client.session.id])
    assert client.read() == NULL_ARRAY
    assert pusher("LLEN", "k") == 1


def test_gone_while_waiting(server: LocalServer, pusher: LocalClient) -> None:
    first = wait(server, "BLPOP", "k", 10)
    second = wait(server, "BLPOP", "k", 0)
    first.close()
    pusher("RPUSH", "k", "a", "b")
    assert second.read() == [b"k", b"a"]
    server.advance(20)
    assert not first.session.out
    assert not server.engine.blocking.waits


# --- waiting again -------------------------------------------------------------------------------

GROUP = Group("generic")


@GROUP.command("waitlong", 3, "write", since="1.0.0", summary="Waits for a list of a length.")
def wait_long(ctx: Session, argv: list[bytes]) -> HandlerReply:
    """The list once it has grown to a length; waits a second again and again."""
    value = ctx.db.peek(argv[1])
    if isinstance(value, List) and len(value) >= int(argv[2]):
        return len(value)
    return ctx.engine.blocking.wait_for_keys(ctx, argv, [argv[1]], None, 1000, NULL_ARRAY_REPLY)


NULL_ARRAY_REPLY = ErrorReply(b"ERR too late")


@GROUP.command("waitfail", 2, "write", since="1.0.0", summary="Waits, then fails.")
def wait_fail(ctx: Session, argv: list[bytes]) -> HandlerReply:
    """What a bug does."""
    if ctx.resumed:
        raise RuntimeError("a bug")
    return ctx.engine.blocking.wait_for_keys(ctx, argv, [argv[1]], None, 0, NULL_ARRAY_REPLY)


def test_in_vain(server: LocalServer, pusher: LocalClient) -> None:
    server.engine.install_group(GROUP)
    patient = wait(server, "WAITLONG", "k", 3)
    other = wait(server, "WAITLONG", "k", 2)
    pusher("RPUSH", "k", "a")
    assert is_waiting(patient)
    server.advance(0.6)
    run_transaction(pusher, ["DEL", "k"], ["RPUSH", "k", "a", "b"])
    assert is_waiting(patient)
    assert other.read() == 2
    # Its time is that of its first attempt.
    server.advance(0.5)
    assert patient.read() == Error(b"ERR too late")


def test_in_vain_keeps_its_place(server: LocalServer, pusher: LocalClient) -> None:
    server.engine.install_group(GROUP)
    first = wait(server, "WAITLONG", "k", 2)
    second = wait(server, "WAITLONG", "k", 2)
    pusher("RPUSH", "k", "a")
    pusher("DEL", "k")
    order = [wait.session for wait in server.keyspace.databases[0].waiters[b"k"]]
    assert order == [first.session, second.session]


def test_a_bug_hurts_nobody_else(server: LocalServer, pusher: LocalClient) -> None:
    server.engine.install_group(GROUP)
    broken = wait(server, "WAITFAIL", "k")
    client = wait(server, "BLPOP", "k", 0)
    assert pusher("RPUSH", "k", "a") == 1
    assert isinstance(broken.read(), Error)
    assert client.read() == [b"k", b"a"]


# --- the gate ------------------------------------------------------------------------------------


def test_taken_up_the_command_passes_the_gate_again(
    server: LocalServer, pusher: LocalClient
) -> None:
    client = wait(server, "BLMOVE", "k", "l", "LEFT", "LEFT", 0)
    popper = wait(server, "BLPOP", "k", 0)

    def refuse(session: Session, command: Command, argv: list[bytes]) -> HandlerReply:
        return ErrorReply(b"OOM no") if command.name == b"blmove" else None

    server.engine.add_guard(30, refuse)
    pusher("RPUSH", "k", "a")
    assert client.read() == Error(b"OOM no")
    assert popper.read() == [b"k", b"a"]
    assert server.engine.commands[b"blmove"].rejected == 1


def test_short_of_memory(pusher: LocalClient, server: LocalServer) -> None:
    client = wait(server, "BLMOVE", "k", "l", "LEFT", "LEFT", 0)
    run_transaction(pusher, ["RPUSH", "k", "a"], ["CONFIG", "SET", "maxmemory", 1])
    reply = client.read()
    assert isinstance(reply, Error)
    assert reply.text.startswith(b"OOM")
    assert pusher("LLEN", "k") == 1


def test_paused(server: LocalServer, pusher: LocalClient) -> None:
    client = wait(server, "BLPOP", "k", 0)
    run_transaction(pusher, ["CLIENT", "PAUSE", 1000, "WRITE"], ["RPUSH", "k", "a"])
    assert not client.has_input()
    assert pusher("LLEN", "k") == 1
    assert not server.engine.blocking.waits
    assert pusher("CLIENT", "UNPAUSE") == OK
    assert client.read() == [b"k", b"a"]


def test_gone_while_paused(server: LocalServer, pusher: LocalClient) -> None:
    client = wait(server, "BLPOP", "k", 0)
    run_transaction(pusher, ["CLIENT", "PAUSE", 1000, "WRITE"], ["RPUSH", "k", "a"])
    client.close()
    pusher("CLIENT", "UNPAUSE")
    assert pusher("LLEN", "k") == 1


# --- what others see -----------------------------------------------------------------------------


def test_what_is_logged(server: LocalServer, pusher: LocalClient) -> None:
    log = follow_log(server)
    requests: list[list[str | int]] = [
        ["BLPOP", "k", 0],
        ["BRPOP", "x", "k", 0],
        ["BLMPOP", 0, 2, "x", "k", "left", "COUNT", 2],
        ["BLMPOP", 0, 1, "k", "right", "COUNT", 20],
        ["BLMOVE", "k", "l", "left", "RIGHT", 0],
        ["BRPOPLPUSH", "k", "l", 0],
    ]
    for request in requests:
        wait(server, *request)
        pusher("RPUSH", "k", "a", "b", "c")
        pusher("DEL", "k")
    found = [argv for argv in read_log(log) if argv[0] not in (b"RPUSH", b"DEL")]
    assert found == [
        [b"LPOP", b"k"],
        [b"RPOP", b"k"],
        [b"LPOP", b"k", b"2"],
        [b"RPOP", b"k", b"3"],
        [b"LMOVE", b"k", b"l", b"left", b"RIGHT"],
        [b"RPOPLPUSH", b"k", b"l"],
    ]


def test_what_is_served_after_a_transaction_is_logged_after_it(
    server: LocalServer, pusher: LocalClient
) -> None:
    log = follow_log(server)
    wait(server, "BLPOP", "k", 0)
    run_transaction(pusher, ["RPUSH", "k", "a"], ["RPUSH", "k", "b"])
    assert read_log(log) == [
        [b"MULTI"],
        [b"RPUSH", b"k", b"a"],
        [b"RPUSH", b"k", b"b"],
        [b"EXEC"],
        [b"LPOP", b"k"],
    ]


def test_nothing_is_logged_of_waiting(server: LocalServer, pusher: LocalClient) -> None:
    log = follow_log(server)
    client = wait(server, "BLPOP", "k", 1)
    pusher("SET", "k", "x")
    server.advance(1)
    assert client.read() == NULL_ARRAY
    assert read_log(log) == [[b"SET", b"k", b"x"]]


def test_a_call_is_counted_once_and_at_its_end(server: LocalServer, pusher: LocalClient) -> None:
    command = server.engine.commands[b"blpop"]
    served = wait(server, "BLPOP", "k", 0)
    late = wait(server, "BLPOP", "k", 1)
    unblocked = wait(server, "BLPOP", "k", 0)
    assert command.calls == 0
    pusher("RPUSH", "k", "a")
    assert served.read() == [b"k", b"a"]
    assert command.calls == 1
    server.advance(1)
    assert late.read() == NULL_ARRAY
    assert command.calls == 2
    pusher("CLIENT", "UNBLOCK", unblocked.session.id, "ERROR")
    assert command.calls == 3
    assert command.failed == 1
    assert server.engine.statistics.error_counts == {b"UNBLOCKED": 1}


def test_a_skipped_reply_is_the_one_that_comes_later(
    server: LocalServer, pusher: LocalClient
) -> None:
    client = server.connect()
    client.send("CLIENT", "REPLY", "SKIP")
    client.send("BLPOP", "k", 0)
    pusher("RPUSH", "k", "a")
    assert pusher("LLEN", "k") == 0
    assert not client.has_input()
    assert client("PING", "next") == b"next"
