"""Sentinels of both kinds in one quorum, over servers of both kinds, and their usual clients."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest
import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.sentinel

from tests.conftest import require_oracle, require_oracle_sentinel, require_program
from tests.replicas import info, wait_until
from tests.sentinels import NAME, Guarded, Sentinel, check_logs, fields
from tests.servers import Server, sentinel_command
from tests.wire import OK, Closed, Error, Reply

# redis-py's annotations leave these without any.
Finder: Any = redis.sentinel.Sentinel
AsyncFinder: Any = redis.asyncio.sentinel.Sentinel

DOWN_AFTER: Final = 1200
FAILOVER_TIMEOUT: Final = 4000
LIMIT: Final = 60.0
CANDIDATE: Final = "c" * 40
RIVAL: Final = "d" * 40


def make(stack: ExitStack, servers: list[str], sentinels: list[str], **more: Any) -> Guarded:
    return Guarded(
        stack,
        servers,
        sentinels,
        down_after=DOWN_AFTER,
        failover_timeout=FAILOVER_TIMEOUT,
        quick=True,
        **more,
    )


@pytest.fixture(scope="module")
def shared() -> Iterator[Guarded]:
    with ExitStack() as stack:
        yield make(stack, ["redis", "ours", "redis"], ["ours", "redis", "ours"])


@pytest.fixture
def guarded(shared: Guarded) -> Iterator[Guarded]:
    """Three servers and three sentinels, all well."""
    shared.await_health()
    yield shared
    for victim in shared.everybody:
        shared.mend(victim)


def master_of(guarded: Guarded) -> Server:
    (master,) = guarded.masters()
    return master


def has_another(guarded: Guarded, old: Server, sentinel: Sentinel) -> bool:
    """Whether a sentinel names another master, and has nothing left to do about that."""
    row = guarded.row(sentinel)
    return row["port"] != str(old.port) and "failover_in_progress" not in row["flags"]


def fail_over(guarded: Guarded, sentinel: Sentinel) -> None:
    """Ask for a failover, as soon as the sentinel knows of a replica that is good enough."""
    words = ("SENTINEL", "FAILOVER", NAME)
    wait_until(lambda: guarded.ask(sentinel, *words) == OK, "a failover", LIMIT)


def peer_ids(guarded: Guarded, sentinel: Sentinel) -> set[str]:
    rows = guarded.ask(sentinel, "SENTINEL", "SENTINELS", NAME)
    assert isinstance(rows, list)
    return {fields(row)["runid"] for row in rows}


def my_id(guarded: Guarded, sentinel: Sentinel) -> str:
    reply = guarded.ask(sentinel, "SENTINEL", "MYID")
    assert isinstance(reply, bytes)
    return reply.decode()


def test_all_find_each_other(guarded: Guarded) -> None:
    ids = {my_id(guarded, sentinel) for sentinel in guarded.sentinels}
    assert len(ids) == 3
    ports = {str(server.port) for server in guarded.servers}
    for sentinel in guarded.sentinels:
        assert peer_ids(guarded, sentinel) == ids - {my_id(guarded, sentinel)}
        replicas = guarded.ask(sentinel, "SENTINEL", "REPLICAS", NAME)
        assert isinstance(replicas, list)
        assert {fields(row)["port"] for row in replicas} == ports - {str(guarded.named(sentinel))}
        reply = guarded.ask(sentinel, "SENTINEL", "CKQUORUM", NAME)
        assert not isinstance(reply, Error), reply


@pytest.mark.parametrize("leader", [0, 1], ids=["ours", "redis"])
def test_a_failover_that_was_asked_for(guarded: Guarded, leader: int) -> None:
    old = master_of(guarded)
    sentinel = guarded.sentinels[leader]
    before = len(sentinel.log)
    epoch = int(guarded.row(sentinel)["config-epoch"])
    fail_over(guarded, sentinel)
    wait_until(lambda: guarded.named(sentinel) != old.port, "another master", LIMIT)
    guarded.await_health()
    assert master_of(guarded) is not old
    assert int(guarded.row(sentinel)["config-epoch"]) > epoch
    told = sentinel.log[before:]
    steps = re.findall(r"[+-][a-z-]+", told)
    expected = [
        *("+new-epoch", "+try-failover", "+vote-for-leader", "+elected-leader"),
        *("+failover-state-select-slave", "+selected-slave", "+failover-state-send-slaveof-noone"),
        *("+failover-state-wait-promotion", "+promoted-slave", "+failover-state-reconf-slaves"),
        *("+failover-end", "+switch-master"),
    ]
    assert [step for step in steps if step in expected] == expected
    for other in guarded.sentinels:
        assert f"+switch-master {NAME} 127.0.0.1 {old.port} 127.0.0.1" in other.log
    check_logs(guarded.sentinels)


@pytest.mark.parametrize("leader", ["ours", "redis"])
def test_a_dead_master_is_replaced_and_returns_as_a_replica(guarded: Guarded, leader: str) -> None:
    old = master_of(guarded)
    # Who sees it later votes for who sees it first.
    for sentinel in guarded.sentinels:
        slow = not sentinel.name.startswith(leader)
        period = 10 * DOWN_AFTER if slow else DOWN_AFTER
        reply = guarded.ask(sentinel, "SENTINEL", "SET", NAME, "down-after-milliseconds", period)
        assert reply == OK
        if leader == "redis":
            # One alone is to be enough to see it.
            guarded.ask(sentinel, "SENTINEL", "SET", NAME, "quorum", 1)
    elected = {
        sentinel.port: sentinel.log.count("+elected-leader") for sentinel in guarded.sentinels
    }
    old.kill()
    try:
        wait_until(
            lambda: all(has_another(guarded, old, s) for s in guarded.sentinels), limit=LIMIT
        )
    finally:
        old.launch()
        old.await_ready()
        for sentinel in guarded.sentinels:
            words = ("down-after-milliseconds", DOWN_AFTER, "quorum", 2)
            assert guarded.ask(sentinel, "SENTINEL", "SET", NAME, *words) == OK
    guarded.await_health()
    with old.connect() as client:
        assert info(client, "replication")["role"] == "slave"
    led = [s for s in guarded.sentinels if s.log.count("+elected-leader") > elected[s.port]]
    assert all(sentinel.name.startswith(leader) for sentinel in led)
    assert led
    check_logs(guarded.sentinels)


def test_not_enough_sentinels(guarded: Guarded) -> None:
    left, *others = guarded.sentinels
    for sentinel in others:
        sentinel.kill()

    def answer() -> Reply:
        return guarded.ask(left, "SENTINEL", "CKQUORUM", NAME)

    wait_until(lambda: b" 1 usable" in getattr(answer(), "text", b""), "their loss", LIMIT)
    reply = answer()
    assert isinstance(reply, Error)
    assert reply.text == (
        b"NOQUORUM 1 usable Sentinels. Not enough available Sentinels to reach the specified "
        b"quorum for this master. Not enough available Sentinels to reach the majority and "
        b"authorize a failover"
    )
    for sentinel in others:
        guarded.mend(sentinel)
    wait_until(lambda: answer() not in (None, reply) and not isinstance(answer(), Error))


def test_a_vote_survives_a_kill(guarded: Guarded) -> None:
    sentinel = guarded.sentinels[0]
    port = guarded.named(sentinel)
    epoch = int(guarded.row(sentinel)["config-epoch"]) + 50
    known = peer_ids(guarded, sentinel)
    identity = my_id(guarded, sentinel)
    words = ("SENTINEL", "IS-MASTER-DOWN-BY-ADDR", "127.0.0.1", port, epoch)
    assert guarded.ask(sentinel, *words, CANDIDATE) == [0, CANDIDATE.encode(), epoch]
    sentinel.kill()
    assert f"leader-epoch {NAME} {epoch}" in sentinel.file.read_text()
    guarded.mend(sentinel)
    reply = guarded.ask(sentinel, *words, RIVAL)
    assert isinstance(reply, list)
    assert reply[1] != RIVAL.encode()
    # It knows everybody at once, and is known again.
    assert my_id(guarded, sentinel) == identity
    assert peer_ids(guarded, sentinel) == known
    assert guarded.named(sentinel) == port


@pytest.mark.parametrize("first", ["ours", "redis"])
def test_one_goes_on_with_the_others_file(guarded: Guarded, first: str) -> None:
    commands = {"ours": sentinel_command(), "redis": require_oracle_sentinel()}
    second = "redis" if first == "ours" else "ours"
    sentinel = next(s for s in guarded.sentinels if s.name.startswith(first))
    before = guarded.row(sentinel)
    identity = my_id(guarded, sentinel)
    known = peer_ids(guarded, sentinel)
    command, name = sentinel.command, sentinel.name
    os.kill(sentinel.pid, signal.SIGTERM)
    assert sentinel.await_end() == 0
    try:
        sentinel.command = [*commands[second], str(sentinel.file)]
        guarded.mend(sentinel)
        row = guarded.row(sentinel)
        for field in ("port", "config-epoch", "quorum", "down-after-milliseconds", "num-slaves"):
            assert row[field] == before[field]
        assert my_id(guarded, sentinel) == identity
        assert peer_ids(guarded, sentinel) == known
        guarded.await_health()
        os.kill(sentinel.pid, signal.SIGTERM)
        assert sentinel.await_end() == 0
    finally:
        sentinel.command, sentinel.name = command, name
        sentinel.kill()
        guarded.mend(sentinel)
    assert peer_ids(guarded, sentinel) == known


def test_a_process_that_stood_still_is_in_tilt(guarded: Guarded) -> None:
    sentinel = guarded.sentinels[0]
    words = ("tilt-trigger", 300, "tilt-period", 500)
    assert guarded.ask(sentinel, "SENTINEL", "DEBUG", *words) == OK
    tilts = sentinel.log.count("+tilt")
    guarded.hit(sentinel, stop=True)
    os.waitid(os.P_PID, sentinel.pid, os.WSTOPPED | os.WNOWAIT)
    others = guarded.sentinels[1]
    down = sentinel.port

    def is_seen_down() -> bool:
        rows = guarded.ask(others, "SENTINEL", "SENTINELS", NAME)
        assert isinstance(rows, list)
        return any(
            row["port"] == str(down) and "s_down" in row["flags"] for row in map(fields, rows)
        )

    wait_until(is_seen_down, "its loss", LIMIT)
    guarded.mend(sentinel)
    wait_until(lambda: sentinel.log.count("+tilt") > tilts, "tilt", LIMIT)
    wait_until(lambda: "-tilt" in sentinel.log, "the end of tilt", LIMIT)
    with sentinel.connect() as client:
        assert info(client, "sentinel")["sentinel_tilt"] == "0"
    assert guarded.ask(sentinel, "SENTINEL", "DEBUG", "tilt-trigger", 2000) == OK


def test_a_simulated_crash(guarded: Guarded) -> None:
    sentinel = guarded.sentinels[0]
    old = master_of(guarded)
    words = ("SENTINEL", "SIMULATE-FAILURE", "crash-after-election")
    assert guarded.ask(sentinel, *words) == OK
    before = len(sentinel.log)
    with contextlib.suppress(Closed, OSError):
        fail_over(guarded, sentinel)
    assert sentinel.await_end() == 99
    log = sentinel.log[before:]
    assert "+elected-leader" in log
    assert "+selected-slave" not in log
    guarded.mend(sentinel)
    guarded.await_health()
    assert master_of(guarded) is old


def test_redis_py_finds_the_master_again(guarded: Guarded) -> None:
    old = master_of(guarded)
    finder = Finder([("127.0.0.1", sentinel.port) for sentinel in guarded.sentinels])
    assert finder.discover_master(NAME) == ("127.0.0.1", old.port)
    assert {port for _, port in finder.discover_slaves(NAME)} == {
        server.port for server in guarded.servers if server is not old
    }
    master: Any = finder.master_for(NAME, decode_responses=True)
    replica: Any = finder.slave_for(NAME, decode_responses=True)
    assert master.set("before", "1")
    wait_until(lambda: replica.get("before") == "1")
    assert finder.sentinels[0].sentinel_failover(NAME)
    wait_until(lambda: guarded.named(guarded.sentinels[0]) != old.port, "another master", LIMIT)
    guarded.await_health()
    assert master.set("after", "1")
    assert master.get("before") == "1"
    wait_until(lambda: replica.get("after") == "1")
    rows: Any = finder.sentinels[0].sentinel_masters()
    assert rows[NAME]["is_master"]
    assert rows[NAME]["num-other-sentinels"] == 2
    for client in (master, replica, *finder.sentinels):
        client.close()


def test_redis_py_asyncio_finds_the_master_again(guarded: Guarded) -> None:
    old = master_of(guarded)

    async def main() -> None:
        finder = AsyncFinder([("127.0.0.1", sentinel.port) for sentinel in guarded.sentinels])
        assert await finder.discover_master(NAME) == ("127.0.0.1", old.port)
        master: Any = finder.master_for(NAME, decode_responses=True)
        replica: Any = finder.slave_for(NAME, decode_responses=True)
        assert await master.set("async", "1")
        with pytest.raises(redis.ReadOnlyError):
            await replica.set("async", "2")
        assert await finder.sentinels[1].execute_command("SENTINEL FAILOVER", NAME)
        await asyncio.to_thread(
            wait_until,
            lambda: guarded.named(guarded.sentinels[1]) != old.port,
            "another master",
            LIMIT,
        )
        await asyncio.to_thread(guarded.await_health)
        assert await master.set("async", "3")
        for client in (master, replica, *finder.sentinels):
            await client.aclose()

    asyncio.run(main())


def test_redis_cli_hears_the_events(guarded: Guarded, tmp_path: Path) -> None:
    sentinel = guarded.sentinels[0]
    heard = tmp_path / "heard"
    command = [require_program("redis-cli"), "-p", str(sentinel.port)]
    with heard.open("wb") as output:
        listener = subprocess.Popen([*command, "PSUBSCRIBE", "*"], stdout=output)
    try:
        wait_until(lambda: b"psubscribe" in heard.read_bytes(), "the subscription", LIMIT)
        old = master_of(guarded)
        done = subprocess.run(
            [*command, "SENTINEL", "FAILOVER", NAME], capture_output=True, check=True, timeout=LIMIT
        )
        assert done.stdout == b"OK\n"
        wait_until(lambda: b"+switch-master" in heard.read_bytes(), "the switch", LIMIT)
        guarded.await_health()
        new = master_of(guarded)
        lines = heard.read_text().splitlines()
        payload = lines[lines.index("+switch-master") + 1]
        assert payload == f"{NAME} 127.0.0.1 {old.port} 127.0.0.1 {new.port}"
        payload = lines[lines.index("+try-failover") + 1]
        assert payload == f"master {NAME} 127.0.0.1 {old.port}"
        payload = lines[lines.index("+promoted-slave") + 1]
        assert payload == (
            f"slave 127.0.0.1:{new.port} 127.0.0.1 {new.port} @ {NAME} 127.0.0.1 {old.port}"
        )
    finally:
        listener.terminate()
        listener.wait()


def test_scripts_and_one_replica_at_a_time(tmp_path: Path) -> None:
    notify, reconfigure = tmp_path / "notify", tmp_path / "reconfigure"
    for script in (notify, reconfigure):
        script.write_text(f'#!/bin/sh\necho "$@" >> {script}.out\n')
        script.chmod(0o755)
    with ExitStack() as stack:
        guarded = make(
            stack,
            ["ours"] + ["redis"] * 3,
            ["ours"],
            statements=(
                f"parallel-syncs {NAME} 1",
                f"notification-script {NAME} {notify}",
                f"client-reconfig-script {NAME} {reconfigure}",
            ),
        )
        (sentinel,) = guarded.sentinels
        old = master_of(guarded)
        fail_over(guarded, sentinel)
        wait_until(lambda: "+failover-end" in sentinel.log, "the end", LIMIT)
        guarded.await_health()
        new = master_of(guarded)
        # The two other replicas, one after the other.
        steps = re.findall(r"\+slave-reconf-(sent|done) slave 127.0.0.1:(\d+)", sentinel.log)
        assert [step for step, _ in steps] == ["sent", "done"] * 2
        assert steps[0][1] == steps[1][1] != steps[2][1] == steps[3][1]
        wait_until(lambda: guarded.ask(sentinel, "SENTINEL", "PENDING-SCRIPTS") == [], limit=LIMIT)
        told = (tmp_path / "notify.out").read_text()
        assert f"+monitor master {NAME} 127.0.0.1 {old.port} quorum 1\n" in told
        assert f"+switch-master {NAME} 127.0.0.1 {old.port} 127.0.0.1 {new.port}\n" in told
        told = (tmp_path / "reconfigure.out").read_text()
        assert told == f"{NAME} leader start 127.0.0.1 {old.port} 127.0.0.1 {new.port}\n"


def test_passwords() -> None:
    password = "the secret"
    given = ("--sentinel", "sentinel-pass", password)
    with ExitStack() as stack:
        guarded = make(
            stack,
            ["ours", "redis"],
            ["ours", "redis"],
            statements=(f'auth-pass {NAME} "{password}"',),
            directives=("--requirepass", password, "--masterauth", password),
            password=password,
            sentinel_directives=("--requirepass", password, *given),
        )
        for sentinel in guarded.sentinels:
            with sentinel.connect() as client:
                assert client("SENTINEL", "MASTERS") == Error(b"NOAUTH Authentication required.")
        old = master_of(guarded)
        old.kill()
        wait_until(
            lambda: all(has_another(guarded, old, s) for s in guarded.sentinels), limit=LIMIT
        )


def test_an_acl_user() -> None:
    """A real server lets the sentinel in by a user that may do what sentinels do."""
    with ExitStack() as stack:
        master = stack.enter_context(Server(require_oracle(), name="master"))
        with master.connect() as client:
            client(
                *("ACL", "SETUSER", "guard", "on", ">pass", "allchannels", "+multi", "+slaveof"),
                *("+ping", "+exec", "+subscribe", "+config|rewrite", "+role", "+publish", "+info"),
                *("+client|setname", "+client|kill", "+script|kill"),
            )
            client("CONFIG", "SET", "requirepass", "other")
        statements = (
            f"monitor {NAME} 127.0.0.1 {master.port} 1",
            f"auth-user {NAME} guard",
            f"auth-pass {NAME} pass",
        )
        sentinel = stack.enter_context(Sentinel(sentinel_command(), statements))

        def row() -> dict[str, str]:
            with sentinel.connect() as client:
                return fields(client("SENTINEL", "MASTER", NAME))

        wait_until(lambda: row()["flags"] == "master" and bool(row()["runid"]), limit=LIMIT)
