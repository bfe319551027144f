"""How a node ends: SHUTDOWN, signals, what is logged, what other clients still get."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from collections.abc import Generator
from contextlib import contextmanager

import pytest

from tests.conftest import StartServer
from tests.replicas import info, wait_until
from tests.servers import STOP_LIMIT, Server
from tests.wire import OK, Client, Closed, Error

LAST_LINE = "Sentrio is now ready to exit, bye bye..."


def wait_for_end(server: Server) -> int:
    """The exit code."""
    assert server.process is not None
    return server.process.wait(STOP_LIMIT)


def await_line(server: Server, text: str) -> None:
    """Wait until the log has it."""
    deadline = time.monotonic() + STOP_LIMIT
    while text not in server.log:
        assert time.monotonic() < deadline, server.log
        time.sleep(0.01)


def is_connectable(server: Server) -> bool:
    """Whether somebody accepts connections there."""
    try:
        socket.create_connection(server.address, 1).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("options", [[], ["NOSAVE"], ["NOW", "FORCE"], ["save", "force"]])
def test_shutdown(start_node: StartServer, options: list[str]) -> None:
    server = start_node()
    with server.connect() as client:
        client.send("SHUTDOWN", *options)
        assert client.read_rest() == b""
    assert wait_for_end(server) == 0
    log = server.log
    assert " * User requested shutdown..." in log
    assert log.rstrip().endswith(LAST_LINE)
    assert not is_connectable(server)


def lock(server: Server, locked: bool) -> None:
    """Put a folder in the way of the snapshot, or take it away."""
    path = server.folder / "dump.rdb"
    if locked:
        path.mkdir()
    else:
        path.rmdir()


def test_what_cannot_be_saved_keeps_the_server_up(start_node: StartServer) -> None:
    server = start_node()
    lock(server, True)
    with server.connect() as client:
        assert client("SHUTDOWN", "SAVE") == Error(b"ERR Errors trying to SHUTDOWN. Check logs.")
        assert client("SET", "key", "value") == OK
        log = server.log
        assert " # Error trying to save the DB, can't exit." in log
        assert " # Errors trying to shut down the server." in log
        client.send("SHUTDOWN", "SAVE", "FORCE")
        assert client.read_rest() == b""
    assert wait_for_end(server) == 0
    assert "Error trying to save the DB. Exit anyway." in server.log
    assert [path.name for path in server.folder.iterdir() if "rdb" in path.name] == ["dump.rdb"]


def test_shutdown_saves(start_node: StartServer) -> None:
    server = start_node()
    with server.connect() as client:
        assert client("SET", "key", "value") == OK
        client.send("SHUTDOWN", "SAVE")
        assert client.read_rest() == b""
    assert wait_for_end(server) == 0
    assert " * Saving the final RDB snapshot before exiting." in server.log
    server.restart()
    with server.connect() as client:
        assert client("GET", "key") == b"value"


def test_requests_after_shutdown_are_not_executed(start_node: StartServer) -> None:
    server = start_node()
    with server.connect() as client:
        client.send_raw(b"SET key value\r\nSHUTDOWN NOSAVE\r\nSET key other\r\nGET key\r\n")
        assert client.read() == OK
        with pytest.raises(Closed):
            client.read()
    assert wait_for_end(server) == 0


def test_shutdown_is_not_for_transactions(start_node: StartServer) -> None:
    server = start_node()
    with server.connect() as client:
        assert client("MULTI") == OK
        assert client("SHUTDOWN", "NOW") == Error(b"ERR Command not allowed inside a transaction")
        assert isinstance(client("EXEC"), Error)


def test_other_clients_get_what_they_are_owed(start_node: StartServer) -> None:
    server = start_node()
    with server.connect() as reader, server.connect() as client:
        assert reader("SET", "big", "x" * 1000) == OK
        assert reader("SUBSCRIBE", "news") != OK
        client.send_raw(b"PUBLISH news last\r\nSHUTDOWN NOSAVE\r\n")
        assert client.read() == 1
        assert reader.read() == [b"message", b"news", b"last"]
        assert reader.read_rest() == b""
    assert wait_for_end(server) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals(start_node: StartServer, number: signal.Signals) -> None:
    server = start_node()
    assert server.process is not None
    with server.connect() as client:
        assert client("PING") is not None
        server.process.send_signal(number)
        assert client.read_rest() == b""
    assert wait_for_end(server) == 0
    # Without process id, date and level.
    lines = [line.split(" ", 6)[-1] for line in server.log.splitlines()]
    received = next(i for i, line in enumerate(lines) if "scheduling shutdown" in line)
    assert lines[received] == f"Received {number.name} scheduling shutdown..."
    assert lines[received + 1] == "User requested shutdown..."
    assert lines[-1] == LAST_LINE


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_who_insists_does_not_wait(start_node: StartServer, first: signal.Signals) -> None:
    server = start_node("--enable-debug-command", "yes", "--save", "3600 1")
    assert server.process is not None
    with server.connect() as client:
        assert client("SET", "key", "value") == OK
        # A server that does nothing else for a long time.
        client.send_raw(b"DEBUG LOG goodnight\r\nDEBUG SLEEP 1000\r\n")
        await_line(server, "goodnight")
        server.process.send_signal(first)
        await_line(server, "scheduling shutdown")
        server.process.send_signal(signal.SIGINT)
        assert wait_for_end(server) == 1
    assert "# You insist... exiting now." in server.log
    assert LAST_LINE not in server.log
    assert not (server.folder / "dump.rdb").exists()


def test_who_insists_leaves_no_half_of_a_snapshot(start_node: StartServer) -> None:
    server = start_node("--save", "3600 1", "--rdb-key-save-delay", "1000000000")
    assert server.process is not None
    with server.connect() as client:
        assert client("MSET", "a", "1", "b", "2") == OK
        server.process.send_signal(signal.SIGINT)
        while not list(server.folder.glob("temp-*.rdb")):
            assert server.process.poll() is None
        server.process.send_signal(signal.SIGINT)
        assert wait_for_end(server) == 1
    assert not list(server.folder.glob("*.rdb"))


def test_a_terminal_that_goes_away_ends_nothing(start_node: StartServer) -> None:
    server = start_node()
    assert server.process is not None
    server.process.send_signal(signal.SIGHUP)
    with server.connect() as client:
        assert client("SET", "key", "value") == OK


def test_a_signal_that_asks_for_the_impossible(start_node: StartServer) -> None:
    server = start_node("--shutdown-on-sigint", "save")
    assert server.process is not None
    lock(server, True)
    server.process.send_signal(signal.SIGINT)
    with server.connect() as client:
        while "check the logs for more information" not in server.log:
            assert client("PING") is not None
        assert client("CONFIG", "SET", "shutdown-on-sigint", "default") == OK
    # The first that is asked for since.
    server.process.send_signal(signal.SIGINT)
    assert wait_for_end(server) == 0


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("SEGFAULT", signal.SIGSEGV),
        ("PANIC", signal.SIGABRT),
        ("OOM", signal.SIGABRT),
        ("ASSERT", signal.SIGABRT),
    ],
)
def test_crashes_for_those_who_test_what_comes_after(
    start_node: StartServer, name: str, number: signal.Signals
) -> None:
    server = start_node("--enable-debug-command", "yes")
    with server.connect() as client:
        client.send("DEBUG", name)
        assert client.read_rest() == b""
    assert wait_for_end(server) == -number
    assert f"DEBUG {name} called" in server.log
    # The report, with the place in the program.
    assert re.search(r'Fatal Python error: .*\n(.*\n)+ +File ".*sentrio.py", line', server.log)


def test_the_report_of_a_crash_goes_to_the_log_file_unless_it_is_switched_off(
    start_node: StartServer,
) -> None:
    allowed = ("--enable-debug-command", "yes", "--logfile", "log.txt")
    for words, switched in ((), True), (("--crash-log-enabled", "no"), False):
        server = start_node(*allowed, *words)
        path = server.folder / "log.txt"
        with server.connect() as client:
            client.send("DEBUG", "SEGFAULT")
            assert client.read_rest() == b""
        assert wait_for_end(server) == -signal.SIGSEGV
        assert ("Fatal Python error: Segmentation fault" in path.read_text()) == switched
        assert "Fatal" not in server.log


def test_debug_is_refused_unless_it_is_allowed(start_node: StartServer) -> None:
    with start_node().connect() as client:
        refusal = client("DEBUG", "SLEEP", "0")
        assert isinstance(refusal, Error)
        assert refusal.text.startswith(
            b'ERR DEBUG command not allowed. If the enable-debug-command option is set to "local"'
        )
    with start_node("--enable-debug-command", "local").connect() as client:
        assert client("DEBUG", "SLEEP", "0") == OK


# --- replicas ------------------------------------------------------------------------------------

REPLICATING = ("--repl-diskless-sync-delay", "0", "--save", "3600", "1")


@contextmanager
def stopped(server: Server) -> Generator[None]:
    """The process does nothing for a while."""
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


def follow(replica: Client, master: Server, upper: Client) -> None:
    """Make it a replica, and wait until its master counts it as one."""
    replica("REPLICAOF", "127.0.0.1", master.port)
    wait_until(lambda: "state=online" in info(upper, "replication").get("slave0", ""))


@pytest.mark.parametrize("how", ["SHUTDOWN", "SIGTERM"])
def test_replicas_get_everything_first(
    start_node: StartServer, start_oracle: StartServer, how: str
) -> None:
    """And can go on with the master when it is back."""
    master, replica = start_node(*REPLICATING), start_oracle(*REPLICATING)
    with master.connect() as upper, master.connect() as other, replica.connect() as lower:
        follow(lower, master, upper)
        with stopped(replica):
            assert upper("SET", "key", "value") == OK
            if how == "SHUTDOWN":
                upper.send("SHUTDOWN")
            else:
                os.kill(master.pid, signal.SIGTERM)
            wait_until(lambda: "Waiting for replicas before shutting down." in master.log)
            assert 0 < int(info(other, "server")["shutdown_in_milliseconds"]) <= 10_000
            assert other("GET", "key") == b"value"
            other.send("SET", "key", "late")
            assert not other.has_input(0.1)
        assert wait_for_end(master) == 0
        assert "1 of 1 replicas are in sync when shutting down." in master.log
        assert lower("GET", "key") == b"value"
        master.launch()
        master.await_ready()
        with master.connect() as again:
            wait_until(lambda: info(again, "stats")["sync_partial_ok"] == "1")
            assert info(again, "stats")["sync_full"] == "0"
            assert again("GET", "key") == b"value"


def test_replicas_that_do_not_come(start_node: StartServer, start_oracle: StartServer) -> None:
    """They are not waited for longer than the directive says; or whoever asked changes his mind."""
    master, replica = start_node(*REPLICATING), start_oracle(*REPLICATING)
    with (
        master.connect() as upper,
        master.connect() as other,
        master.connect() as writer,
        replica.connect() as lower,
    ):
        follow(lower, master, upper)
        with stopped(replica):
            assert upper("SET", "key", "value") == OK
            upper.send("SHUTDOWN")
            wait_until(lambda: info(other, "clients")["blocked_clients"] == "1")
            writer.send("SET", "key", "other")
            assert other("SHUTDOWN", "ABORT") == OK
            assert upper.read() == Error(b"ERR Errors trying to SHUTDOWN. Check logs.")
            assert writer.read() == OK
            assert "Shutdown manually aborted." in master.log
            assert other("SHUTDOWN", "ABORT") == Error(b"ERR No shutdown in progress.")
            lock(master, True)
            assert other("CONFIG", "SET", "shutdown-timeout", 1) == OK
            upper.send("SHUTDOWN")
            assert upper.read() == Error(b"ERR Errors trying to SHUTDOWN. Check logs.")
            assert writer("SET", "key", "again") == OK
            lock(master, False)
            upper.send("SHUTDOWN")
            assert wait_for_end(master) == 0
            assert ", state=online." in master.log
            assert "0 of 1 replicas are in sync when shutting down." in master.log
