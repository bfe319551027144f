"""What a started process does with its clients: how many, how long, how much; pauses and ends."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.conftest import StartServer
from tests.replicas import wait_until
from tests.servers import Server
from tests.wire import OK, PONG, Client, Closed, Error, Push, Simple, encode

LIMIT = 20.0
MEGABYTE = 1024 * 1024


def info(client: Client, field: str) -> int:
    """A number from INFO."""
    text = client("INFO", "everything")
    assert isinstance(text, bytes)
    for line in text.decode().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value)
    raise AssertionError(field)


def listing(client: Client) -> dict[int, dict[str, str]]:
    """CLIENT LIST, by id."""
    text = client("CLIENT", "LIST")
    assert isinstance(text, bytes)
    found = {}
    for line in text.decode().splitlines():
        fields = dict(field.split("=", 1) for field in line.split(" "))
        found[int(fields["id"])] = fields
    return found


def number_of(client: Client) -> int:
    """CLIENT ID."""
    number = client("CLIENT", "ID")
    assert isinstance(number, int)
    return number


def is_cut(client: Client) -> bool:
    """Whether the server has closed the connection; reads what is there."""
    client.socket.setblocking(False)
    try:
        while True:
            if not client.socket.recv(MEGABYTE):
                return True
    except BlockingIOError:
        return False
    except OSError:
        return True


# --- how many, how long --------------------------------------------------------------------------


def test_more_clients_than_allowed(start_node: StartServer) -> None:
    node = start_node("--maxclients", "3")
    clients = [node.connect() for _ in range(3)]
    for client in clients:
        assert client("PING") == PONG
    with node.connect() as refused:
        assert refused.read() == Error(b"ERR max number of clients reached")
        assert refused.read_rest() == b""
    assert info(clients[0], "rejected_connections") == 1
    clients[0].close()
    wait_until(lambda: len(listing(clients[1])) == 2, "the connection is gone")
    with node.connect() as client:
        assert client("PING") == PONG
    assert clients[1]("CONFIG", "SET", "maxclients", "100") == OK
    more = [node.connect() for _ in range(10)]
    assert all(client("PING") == PONG for client in more)
    for client in (*clients, *more):
        client.close()


def test_idle_clients_are_closed(start_node: StartServer) -> None:
    # Long enough for the one that is active, on a machine that does other things as well.
    node = start_node("--timeout", "2", "--loglevel", "verbose")
    idle, blocked, subscriber, monitor, active = (node.connect() for _ in range(5))
    idle("PING")
    blocked.send("BLPOP", "list", 0)
    subscriber("SUBSCRIBE", "a")
    monitor("MONITOR")
    ended = time.monotonic() + LIMIT
    while not is_cut(idle):
        assert active("PING") == PONG
        assert time.monotonic() < ended
        time.sleep(0.05)
    assert "Closing idle client" in node.log
    for client in (blocked, subscriber, monitor):
        assert not is_cut(client)
    assert active("RPUSH", "list", "x") == 1
    for client in (idle, blocked, subscriber, monitor, active):
        client.close()


# --- output --------------------------------------------------------------------------------------


def test_a_slow_subscriber_is_cut(start_node: StartServer) -> None:
    node = start_node("--client-output-buffer-limit", "pubsub", "4mb", "0", "0")
    slow, fast, publisher = (node.connect() for _ in range(3))
    slow("SUBSCRIBE", "a")
    fast("SUBSCRIBE", "a")
    process = psutil.Process(node.pid)
    before = process.memory_info().rss
    most = 0
    message = b"x" * 100_000
    for _ in range(400):
        publisher("PUBLISH", "a", message)
        assert fast.read() == [b"message", b"a", message]
        most = max(most, process.memory_info().rss - before)
    wait_until(lambda: info(publisher, "client_output_buffer_limit_disconnections") == 1, "cut")
    assert "scheduled to be closed ASAP for overcoming of output buffer limits" in node.log
    assert publisher("PUBLISH", "a", "x") == 1
    assert most < 24 * MEGABYTE
    rest = slow.read_rest()
    assert 100_000 < len(rest) < 40_000_000
    for client in (slow, fast, publisher):
        client.close()


def test_many_small_messages_in_one_batch(start_node: StartServer) -> None:
    node = start_node("--client-output-buffer-limit", "pubsub", "1mb", "0", "0")
    slow, publisher = node.connect(), node.connect()
    slow("SSUBSCRIBE", "a")  # a listener to shard channels only is a subscriber too
    process = psutil.Process(node.pid)
    before = process.memory_info().rss
    batch = encode(("SPUBLISH", "a", "x" * 20)) * 5000
    for _ in range(100):
        publisher.send_raw(batch)
        replies = {publisher.read() for _ in range(5000)}
        if 0 in replies:
            break
    else:
        pytest.fail("the slow subscriber was not cut")
    assert process.memory_info().rss - before < 24 * MEGABYTE
    assert is_cut(slow)
    for client in (slow, publisher):
        client.close()


def test_the_soft_limit(start_node: StartServer) -> None:
    node = start_node("--client-output-buffer-limit", "pubsub", "0", "1mb", "1")
    slow, publisher = node.connect(), node.connect()
    slow("SUBSCRIBE", "a")
    number = number_of_other(publisher)
    message = b"x" * 100_000
    began = time.monotonic()
    while publisher("PUBLISH", "a", message) == 1 and held(publisher, number) < 2 * MEGABYTE:
        pass
    # Nothing more is sent to it, the time alone cuts it off.
    wait_until(lambda: number not in listing(publisher), "cut")
    assert time.monotonic() - began > 0.9
    for client in (slow, publisher):
        client.close()


def held(client: Client, number: int) -> int:
    """Bytes that wait for another client, which may have gone."""
    return int(listing(client).get(number, {}).get("omem", 0))


def test_normal_clients_have_no_limit_by_default(node: Server) -> None:
    with node.connect() as slow, node.connect() as client:
        client("SET", "key", b"x" * MEGABYTE)
        number = number_of(slow)
        for _ in range(40):
            slow.send("GET", "key")
        wait_until(lambda: int(listing(client)[number]["omem"]) > 20 * MEGABYTE, "replies wait")
        about = listing(client)[number]
        assert about["events"] == "rw"
        assert int(about["oll"]) >= 1
        assert int(about["tot-mem"]) > int(about["omem"])
        for _ in range(40):
            reply = slow.read()
            assert isinstance(reply, bytes)
            assert len(reply) == MEGABYTE
        wait_until(lambda: listing(client)[number]["omem"] == "0", "all is sent")
        client("DEL", "key")


def test_a_closing_client_that_does_not_read_costs_nothing(node: Server) -> None:
    with node.connect() as slow, node.connect() as client:
        client("SET", "key", b"x" * MEGABYTE)
        for _ in range(20):
            slow.send("GET", "key")
        slow.send("QUIT")
        slow.send("PING")
        process = psutil.Process(node.pid)
        wait_until(lambda: any(int(each["omem"]) for each in listing(client).values()), "waiting")
        before = sum(process.cpu_times()[:2])
        time.sleep(0.5)  # what is measured is a span of time
        assert sum(process.cpu_times()[:2]) - before < 0.3
        rest = slow.read_rest()
        assert rest.endswith(b"+OK\r\n")
        client("DEL", "key")


# --- memory of clients ---------------------------------------------------------------------------


@pytest.fixture
def limited(start_node: StartServer) -> Server:
    """A node whose clients may take 8 MB together."""
    return start_node("--maxmemory-clients", "8mb")


def grow_by_query(client: Client) -> None:
    """Send a part of a large request."""
    client.send_raw(b"*2\r\n$3\r\nGET\r\n$100000000\r\n" + b"x" * (20 * MEGABYTE))


def grow_by_queue(client: Client) -> None:
    """Queue much in MULTI."""
    client("MULTI")
    for _ in range(30):
        client.send("SET", "key", b"x" * MEGABYTE)
        client.read()


def grow_by_replies(client: Client) -> None:
    """Ask for much and read nothing."""
    client("SETRANGE", "big", MEGABYTE, "x")
    for _ in range(30):
        client.send("GET", "big")


def grow_by_channels(client: Client) -> None:
    """Listen to many long channels."""
    for number in range(40):
        client.send("SUBSCRIBE", f"{number}".encode() + b"x" * 500_000)
        client.read()


def grow_by_watches(client: Client) -> None:
    """Watch many long keys."""
    for number in range(40):
        client.send("WATCH", f"{number}".encode() + b"x" * 500_000)
        client.read()


@pytest.mark.parametrize(
    "grow", [grow_by_query, grow_by_queue, grow_by_replies, grow_by_channels, grow_by_watches]
)
def test_a_large_client_is_evicted(limited: Server, grow: Callable[[Client], None]) -> None:
    with limited.connect() as large, limited.connect() as small:
        small("PING")
        with contextlib.suppress(OSError, Closed):
            grow(large)
        wait_until(lambda: info(small, "evicted_clients") == 1, "evicted")
        wait_until(lambda: is_cut(large), "the connection ends")
        assert small("PING") == PONG
        assert "Evicting client: id=" in limited.log
        assert small("DBSIZE") in (0, 1)


def test_clients_that_are_spared(limited: Server) -> None:
    with limited.connect() as spared, limited.connect() as other, limited.connect() as third:
        assert spared("CLIENT", "NO-EVICT", "ON") == OK
        spared("MULTI")
        for _ in range(5):
            spared("SET", "key", b"x" * MEGABYTE)
        assert other("PING") == PONG
        for _ in range(10):
            spared.send("SET", "key", b"x" * MEGABYTE)
        # All others go instead, and it alone is left.
        wait_until(lambda: is_cut(other) and is_cut(third), "the others are evicted")
        assert not is_cut(spared)


def test_the_largest_go_first(start_node: StartServer) -> None:
    node = start_node()
    sizes = [3, 9, 6]
    clients = [node.connect() for _ in sizes]
    for client, size in zip(clients, sizes, strict=True):
        client("MULTI")
        for _ in range(size):
            client("SET", "key", b"x" * MEGABYTE)
    with node.connect() as admin:
        assert admin("CONFIG", "SET", "maxmemory-clients", "11mb") == OK
        assert info(admin, "evicted_clients") == 1
        assert is_cut(clients[1])
        assert admin("CONFIG", "SET", "maxmemory", "100mb", "maxmemory-clients", "5%") == OK
        assert info(admin, "evicted_clients") == 2
        assert is_cut(clients[2])
        assert not is_cut(clients[0])
        assert admin("CONFIG", "SET", "maxmemory-clients", "0") == OK
    for client in clients:
        client.close()


# --- strangers -----------------------------------------------------------------------------------


def test_a_pipeline_that_begins_with_auth(start_node: StartServer) -> None:
    node = start_node("--requirepass", "secret")
    large = b"x" * 100_000
    many = [str(number) for number in range(100)]
    requests = [
        encode(("AUTH", "secret")),
        encode(("SET", "key", large)),
        encode(("DEL", *many)),
        b"ECHO inline\r\n",
    ]
    whole = b"".join(requests)
    for cut in (len(whole), 20, len(requests[0]), len(requests[0]) + 1, 70_000):
        with node.connect() as client:
            client.send_raw(whole[:cut])
            if cut < len(whole):
                with node.connect() as other:
                    other("AUTH", "secret")
                    other("PING")
                client.send_raw(whole[cut:])
            assert [client.read() for _ in range(4)] == [OK, OK, 0, b"inline"]


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (encode(("PING",) * 11), b"ERR Protocol error: unauthenticated multibulk length"),
        (encode(("PING", "x" * 16385)), b"ERR Protocol error: unauthenticated bulk length"),
    ],
    ids=["many arguments", "a long argument"],
)
def test_strangers_send_little(start_node: StartServer, request_: bytes, error: bytes) -> None:
    node = start_node("--requirepass", "secret")
    for words in ([], ["AUTH", "wrong"], ["AUTH", "secret"]):
        with node.connect() as client:
            if words == ["AUTH", "secret"]:
                assert client("AUTH", "secret") == OK
                assert client("RESET") == Simple(b"RESET")
                words = []
            client.send_raw((" ".join(words) + "\r\n").encode() + request_)
            if words:
                client.read()
            assert client.read() == Error(error)
            assert client.read_rest() == b""


# --- pauses, ends, pushes ------------------------------------------------------------------------


def test_a_pipeline_in_a_pause(node: Server) -> None:
    with node.connect() as client, node.connect() as admin:
        assert admin("CLIENT", "PAUSE", 100_000, "WRITE") == OK
        client.send_raw(
            encode(("GET", "key")) + encode(("SET", "key", "1")) + encode(("INCR", "key")) * 5000
        )
        client.read()
        wait_until(lambda: "b" in listing(admin)[number_of_other(admin)]["flags"], "put off")
        assert int(listing(admin)[number_of_other(admin)]["qbuf"]) > 5000
        assert admin("EXISTS", "key") == 0
        assert info(admin, "blocked_clients") == 0
        assert admin("CLIENT", "UNPAUSE") == OK
        assert client.read() == OK
        assert [client.read() for _ in range(5000)] == list(range(2, 5002))


def number_of_other(client: Client) -> int:
    """The other client's id; there are two."""
    me = number_of(client)
    (other,) = [number for number in listing(client) if number != me]
    return other


def test_a_pause_ends_by_itself(node: Server) -> None:
    with node.connect() as client, node.connect() as admin:
        began = time.monotonic()
        admin("CLIENT", "PAUSE", 150)
        assert client("SET", "key", "1") == OK
        assert 0.14 < time.monotonic() - began < LIMIT
        assert admin("GET", "key") == b"1"


def test_killing(node: Server) -> None:
    with node.connect() as client, node.connect() as other:
        number = number_of(other)
        assert client("CLIENT", "KILL", "ID", number) == 1
        assert other.read_rest() == b""
        me = number_of(client)
        client.send_raw(
            encode(("CLIENT", "KILL", "ID", me, "SKIPME", "NO")) + encode(("SET", "after", "1"))
        )
        assert client.read() == 1
        assert client.read_rest() == b""
    with node.connect() as client:
        assert client("EXISTS", "after") == 0


def test_a_client_on_a_unix_socket(start_node: StartServer, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    node = start_node("--unixsocket", path)
    with Client(path) as client, node.connect() as monitor:
        monitor("MONITOR")
        (about,) = [each for each in listing(client).values() if "U" in each["flags"]]
        assert about["addr"] == f"{path}:0"
        assert about["laddr"] == f"{path}:0"
        client("GET", "x")
        shown = monitor.read()
        assert isinstance(shown, Simple)
        assert shown.text.endswith(f'[0 unix:{path}] "GET" "x"'.encode())
        assert monitor("CLIENT", "KILL", f"{path}:0") == OK
        assert client.read_rest() == b""


def test_a_message_to_many(node: Server) -> None:
    old = [node.connect() for _ in range(25)]
    new = [node.connect(3) for _ in range(25)]
    message = b"x" * 200_000
    for client in (*old, *new):
        client.send("SUBSCRIBE", "a")
        client.read()
    with node.connect() as publisher:
        for _ in range(3):
            assert publisher("PUBLISH", "a", message) == 50
    for _ in range(3):
        for client in old:
            assert client.read() == [b"message", b"a", message]
        for client in new:
            assert client.read() == Push([b"message", b"a", message])
    for client in (*old, *new):
        client.close()


def test_events_of_active_expiry_reach_listeners(start_node: StartServer) -> None:
    node = start_node("--notify-keyspace-events", "Ex")
    with node.connect() as listener, node.connect() as client:
        listener("PSUBSCRIBE", "__keyevent@*__:expired")
        count = 500
        for number in range(count):
            client("SET", f"key:{number}", "x", "PX", 1)
        seen = set()
        for _ in range(count):
            message = listener.read()
            assert isinstance(message, list)
            seen.add(message[3])
        assert len(seen) == count
