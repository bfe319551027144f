"""Masters, replicas, sentinels and pairs of them are killed and stopped in any order.

Afterwards all of them run again, and then there is one master that all sentinels name, the others
are its replicas, no sentinel has voted twice in an epoch, and no epoch had two leaders.

`SENTRIO_CHAOS_SECONDS` says how long the faults go on (15 s for each of the tests).
"""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Final

import pytest

from tests.conftest import require_oracle, require_oracle_sentinel
from tests.replicas import info, wait_until
from tests.sentinels import Sentinel
from tests.servers import Server, node_command, sentinel_command
from tests.wire import Client, Closed, Error

NAME: Final = "chaos"
DOWN_AFTER: Final = 400
FAILOVER_TIMEOUT: Final = 2500
SECONDS: Final = float(os.environ.get("SENTRIO_CHAOS_SECONDS", "15"))
PATIENCE: Final = 120.0


class Guarded:
    """Three data servers and some sentinels, of the kinds that are asked for."""

    def __init__(self, stack: ExitStack, servers: Sequence[str], sentinels: Sequence[str]) -> None:
        self._frozen: set[Server] = set()
        commands = {"ours": node_command(), "redis": require_oracle()}
        watchers = {"ours": sentinel_command(), "redis": require_oracle_sentinel()}
        self.servers = [self._make_server(commands[kind], kind) for kind in servers]
        for server in self.servers:
            stack.enter_context(server)
        for replica in self.servers[1:]:
            with replica.connect() as client:
                client("REPLICAOF", "127.0.0.1", self.servers[0].port)
                client("CONFIG", "REWRITE")
        quorum = len(sentinels) // 2 + 1
        statements = (
            f"monitor {NAME} 127.0.0.1 {self.servers[0].port} {quorum}",
            f"down-after-milliseconds {NAME} {DOWN_AFTER}",
            f"failover-timeout {NAME} {FAILOVER_TIMEOUT}",
        )
        self.sentinels = [
            Sentinel(watchers[kind], statements, name=f"{kind}-sentinel") for kind in sentinels
        ]
        for sentinel in self.sentinels:
            stack.enter_context(sentinel)
        stack.callback(self.thaw)
        wait_until(self.is_well, "an undisturbed start", PATIENCE)

    @staticmethod
    def _make_server(command: list[str], kind: str) -> Server:
        server = Server(command, "--repl-diskless-sync-delay", "0", name=kind)
        file = server.folder / "server.conf"
        file.touch()
        # What a sentinel has rewritten holds when it starts again.
        server.command = [*command, str(file)]
        return server

    @property
    def everybody(self) -> list[Server]:
        return [*self.servers, *self.sentinels]

    # Faults.

    def hit(self, victim: Server, stop: bool) -> None:
        """Kill a process, or let it stand still; nothing if it is hit already."""
        process = victim.process
        if victim in self._frozen or process is None or process.poll() is not None:
            return
        if stop:
            os.kill(victim.pid, signal.SIGSTOP)
            self._frozen.add(victim)
        else:
            victim.kill()

    def mend(self, victim: Server) -> None:
        """Let it run again."""
        if victim in self._frozen:
            os.kill(victim.pid, signal.SIGCONT)
            self._frozen.discard(victim)
        elif victim.process is not None and victim.process.poll() is not None:
            victim.launch()
            victim.await_ready()

    def thaw(self) -> None:
        """Processes that stand still do not heed SIGTERM."""
        for victim in list(self._frozen):
            self.mend(victim)

    # What there is.

    def named(self, sentinel: Sentinel) -> int:
        """The port of the master that a sentinel names."""
        with sentinel.connect() as client:
            reply = client("SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)
        assert isinstance(reply, list), reply
        assert isinstance(reply[1], bytes), reply
        return int(reply[1])

    def epoch(self, sentinel: Sentinel) -> bytes:
        with sentinel.connect() as client:
            reply = client("SENTINEL", "MASTER", NAME)
        assert isinstance(reply, list), reply
        return bytes(_fields(reply)[b"config-epoch"])

    def master(self) -> Server | None:
        """Whom a sentinel that answers takes for the master."""
        for sentinel in self.sentinels:
            try:
                port = self.named(sentinel) if sentinel not in self._frozen else 0
            except (OSError, Closed):
                continue
            for server in self.servers:
                if server.port == port:
                    return server
        return None

    def is_well(self) -> bool:
        """Whether all agree, and are what they should be."""
        try:
            ports = {self.named(sentinel) for sentinel in self.sentinels}
            if len(ports) != 1 or len({self.epoch(each) for each in self.sentinels}) != 1:
                return False
            for sentinel in self.sentinels:
                with sentinel.connect() as client:
                    fields = _fields(client("SENTINEL", "MASTER", NAME))
                    if (
                        fields[b"flags"] != b"master"
                        or fields[b"num-slaves"] != b"%d" % (len(self.servers) - 1)
                        or fields[b"num-other-sentinels"] != b"%d" % (len(self.sentinels) - 1)
                    ):
                        return False
            (port,) = ports
            return all(self._is_in_place(server, port) for server in self.servers)
        except (OSError, Closed):
            return False

    @staticmethod
    def _is_in_place(server: Server, port: int) -> bool:
        with server.connect() as client:
            fields = info(client, "replication")
        if server.port == port:
            return fields["role"] == "master"
        return (
            fields["role"] == "slave"
            and fields["master_port"] == str(port)
            and fields["master_link_status"] == "up"
        )


def _fields(reply: object) -> dict[bytes, bytes]:
    assert isinstance(reply, list), reply
    return dict(zip(reply[::2], reply[1::2], strict=True))


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.mark.parametrize(
    ("servers", "sentinels", "seed"),
    [
        pytest.param(["ours"] * 3, ["ours"] * 3, 1, id="ours"),
        pytest.param(["redis", "ours", "ours"], ["ours", "redis", "ours"], 2, id="mixed"),
        pytest.param(["redis"] * 3, ["ours"] * 5, 3, id="five-guard-redis"),
    ],
)
def test_one_master_in_the_end(
    stack: ExitStack, servers: list[str], sentinels: list[str], seed: int
) -> None:
    draw = random.Random(seed)
    guarded = Guarded(stack, servers, sentinels)
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        victims = _choose(draw, guarded)
        for victim in victims:
            guarded.hit(victim, stop=draw.random() < 0.4)
        time.sleep(draw.choice([0.1, 1.0, 3.0]))
        for victim in draw.sample(victims, len(victims)):
            guarded.mend(victim)
        time.sleep(draw.choice([0.0, 0.5, 2.0]))
    for victim in guarded.everybody:
        guarded.mend(victim)
    wait_until(guarded.is_well, "agreement", PATIENCE)
    master = guarded.master()
    assert master is not None
    with master.connect() as client:
        _write(client)
    check_logs(guarded.sentinels)


def _choose(draw: random.Random, guarded: Guarded) -> list[Server]:
    """One process, or two: mostly the master is among them."""
    master = guarded.master()
    victims: list[Server] = []
    if master is not None and draw.random() < 0.6:
        victims.append(master)
    wanted = draw.choice([1, 2])
    others = [each for each in guarded.everybody if each is not master]
    return (
        victims + draw.sample(others, wanted - len(victims)) if len(victims) < wanted else victims
    )


def _write(client: Client) -> None:
    reply = client("SET", "written", "afterwards")
    assert not isinstance(reply, Error), reply


def check_logs(sentinels: Sequence[Sentinel]) -> None:
    """No sentinel voted for two in an epoch, and no two were elected in one."""
    leaders: dict[tuple[str, int], set[str]] = defaultdict(set)
    for sentinel in sentinels:
        votes: dict[int, str] = {}
        tried: dict[str, int] = {}  # guarded name -> the epoch in which it votes for itself
        trying = ""
        for line in sentinel.log.splitlines():
            if found := re.search(r"\+try-failover master (\S+)", line):
                trying = found[1]
            elif found := re.search(r"\+vote-for-leader ([0-9a-f]{40}) (\d+)", line):
                epoch = int(found[2])
                assert votes.setdefault(epoch, found[1]) == found[1], (sentinel.name, line)
                tried[trying] = epoch
            elif found := re.search(r"\+elected-leader master (\S+)", line):
                leaders[found[1], tried[found[1]]].add(str(sentinel.port))
    assert leaders, "there was no failover"
    twice = {key: ports for key, ports in leaders.items() if len(ports) > 1}
    assert not twice
