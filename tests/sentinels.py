"""Sentinel processes for tests, each with a config file of its own, and what they guard."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

from tests.conftest import require_oracle, require_oracle_sentinel
from tests.faults import Faults
from tests.replicas import info, wait_until
from tests.servers import Server, node_command, sentinel_command
from tests.wire import OK, Client, Closed, Reply

NAME: Final = "shop"
PATIENCE: Final = 120.0
# Milliseconds.
QUICK: Final = {"info-period": 500, "ping-period": 150, "ask-period": 150, "publish-period": 300}


class Sentinel(Server):
    """A sentinel; ``statements`` are lines of its file, without the word ``sentinel``."""

    def __init__(
        self,
        command: list[str],
        statements: Sequence[str],
        *directives: str,
        name: str = "sentinel",
    ) -> None:
        super().__init__(command, *directives, name=name)
        self.file = self.folder / "sentinel.conf"
        self.file.write_text("".join(f"sentinel {line}\n" for line in statements))
        self.command = [*command, str(self.file)]


class Guarded(Faults):
    """Some data servers and sentinels, of the kinds that are asked for ("ours" or "redis").

    The first server is the master in the beginning. ``statements`` are further lines of the
    sentinels' files, where NAME is the master's name; ``directives`` are words for the servers.
    All are asked with the ``password``, if there is one; to let them have it is up to the others.
    ``quick`` sentinels poll several times as often.
    """

    def __init__(
        self,
        stack: ExitStack,
        servers: Sequence[str],
        sentinels: Sequence[str],
        *,
        down_after: int,
        failover_timeout: int,
        statements: Sequence[str] = (),
        directives: Sequence[str] = (),
        password: str = "",
        sentinel_directives: Sequence[str] = (),
        quick: bool = False,
    ) -> None:
        super().__init__()
        self.password = password
        self.quick = quick
        commands = {"ours": node_command(), "redis": require_oracle()}
        watchers = {"ours": sentinel_command(), "redis": require_oracle_sentinel()}
        self.servers = [self._make_server([*commands[kind]], kind, directives) for kind in servers]
        self._start(stack, self.servers)
        for replica in self.servers[1:]:
            with self.connect(replica) as client:
                client("REPLICAOF", "127.0.0.1", self.servers[0].port)
                client("CONFIG", "REWRITE")
        quorum = len(sentinels) // 2 + 1
        lines = (
            f"monitor {NAME} 127.0.0.1 {self.servers[0].port} {quorum}",
            f"down-after-milliseconds {NAME} {down_after}",
            f"failover-timeout {NAME} {failover_timeout}",
            *statements,
        )
        self.sentinels = [
            Sentinel(watchers[kind], lines, *sentinel_directives, name=f"{kind}-sentinel")
            for kind in sentinels
        ]
        self._start(stack, self.sentinels)
        for sentinel in self.sentinels:
            if quick:
                self.quicken(sentinel)
        stack.callback(self.thaw)
        wait_until(self.is_well, "an undisturbed start", PATIENCE)

    @staticmethod
    def _make_server(command: list[str], kind: str, directives: Sequence[str]) -> Server:
        server = Server(command, "--repl-diskless-sync-delay", "0", *directives, name=kind)
        file = server.folder / "server.conf"
        file.touch()
        # What a sentinel has rewritten holds when it starts again.
        server.command = [*command, str(file)]
        return server

    @staticmethod
    def _start(stack: ExitStack, servers: Sequence[Server]) -> None:
        """Start them all at once."""
        for server in servers:
            stack.callback(server.stop)
            server.launch()
        for server in servers:
            server.await_ready()

    def quicken(self, sentinel: Sentinel) -> None:
        """Let a sentinel work several times as fast."""
        with self.connect(sentinel) as client:
            for name, period in QUICK.items():
                reply = client("SENTINEL", "DEBUG", name, period)
                assert reply == OK, reply

    def connect(self, server: Server) -> Client:
        """A connection that has given the password."""
        client = server.connect()
        if self.password:
            client("AUTH", self.password)
        return client

    @property
    def everybody(self) -> list[Server]:
        return [*self.servers, *self.sentinels]

    def revived(self, victim: Server) -> None:
        if self.quick and isinstance(victim, Sentinel):
            self.quicken(victim)

    # What there is.

    def ask(self, server: Server, *words: str | int) -> Reply:
        """One request on a connection of its own."""
        with self.connect(server) as client:
            return client(*words)

    def named(self, sentinel: Sentinel) -> int:
        """The port of the master that a sentinel names."""
        reply = self.ask(sentinel, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)
        assert isinstance(reply, list), reply
        assert isinstance(reply[1], bytes), reply
        return int(reply[1])

    def row(self, sentinel: Sentinel) -> dict[str, str]:
        """SENTINEL MASTER."""
        return fields(self.ask(sentinel, "SENTINEL", "MASTER", NAME))

    def masters(self) -> list[Server]:
        """Whom the first sentinel that answers takes for the master."""
        for sentinel in self.sentinels:
            try:
                port = self.named(sentinel) if sentinel not in self._frozen else 0
            except (OSError, Closed):
                continue
            found = [server for server in self.servers if server.port == port]
            if found:
                return found
        return []

    def is_well(self) -> bool:
        """Whether all agree, and are what they should be."""
        try:
            ports = {self.named(sentinel) for sentinel in self.sentinels}
            rows = [self.row(sentinel) for sentinel in self.sentinels]
            if len(ports) != 1 or len({row["config-epoch"] for row in rows}) != 1:
                return False
            for row in rows:
                if (
                    row["flags"] != "master"
                    or row["num-slaves"] != str(len(self.servers) - 1)
                    or row["num-other-sentinels"] != str(len(self.sentinels) - 1)
                ):
                    return False
            (port,) = ports
            return all(self._is_in_place(server, port) for server in self.servers)
        except (OSError, Closed):
            return False

    def _is_in_place(self, server: Server, port: int) -> bool:
        with self.connect(server) as client:
            found = info(client, "replication")
        if server.port == port:
            return found["role"] == "master"
        return (
            found["role"] == "slave"
            and found["master_port"] == str(port)
            and found["master_link_status"] == "up"
        )

    def await_health(self) -> None:
        """Until it is so."""
        wait_until(self.is_well, "agreement", PATIENCE)


def fields(reply: Reply) -> dict[str, str]:
    """A row of SENTINEL MASTERS and its like."""
    assert isinstance(reply, list), reply
    words = [word.decode() for word in reply if isinstance(word, bytes)]
    return dict(zip(words[::2], words[1::2], strict=True))


def check_logs(sentinels: Sequence[Sentinel], *, shards: bool = False) -> None:
    """No sentinel voted for two in an epoch, and no two were elected in one.

    Where several ``shards`` are guarded there is a vote for each of them in an epoch.
    """
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
                vote = votes.setdefault(epoch, found[1])
                assert vote == found[1] or shards, (sentinel.name, line)
                if trying:
                    tried[trying] = epoch
                trying = ""
            elif found := re.search(r"\+elected-leader master (\S+)", line):
                leaders[found[1], tried[found[1]]].add(str(sentinel.port))
    assert leaders, "there was no failover"
    twice = {key: ports for key, ports in leaders.items() if len(ports) > 1}
    assert not twice
