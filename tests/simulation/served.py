"""A data server as sentinels see it: roles, offsets, and what is left of its configuration."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from node.resp import Error, Reply
from tests.simulation.wire import Host, Wire

if TYPE_CHECKING:
    from tests.simulation.sentinel import SentinelWorld

TICK: Final = 0.1
PORT: Final = 6379
LOADING: Final = Error(b"LOADING Redis is loading the dataset in memory")
BUSY: Final = Error(b"BUSY Redis is busy running a script. You can only call SCRIPT KILL.")


class Server(Host):
    """One server; ``group`` is the name of the master that it belongs to."""

    def __init__(self, world: SentinelWorld, ip: str, group: str, master: str) -> None:
        super().__init__(ip, PORT)
        self.world = world
        self.group = group
        self.draw = random.Random(f"{world.seed} {ip}")
        self.disk = master  # whom its configuration file says that it follows; "" for nobody
        self.keeps = self.draw.random() < 0.8  # whether CONFIG REWRITE works
        self.priority = self.draw.choice([100, 100, 100, 100, 10, 0])
        self.master = ""
        self.run_id = ""
        self.offset = self.draw.randrange(100)
        self.history = group
        self.busy = False
        self.loading_until = 0.0
        self.synchronizing_until = 0.0
        self.link_up = False
        self.link_down_since = 0.0
        self.clients: dict[Wire, None] = {}
        self.subscribers: dict[Wire, None] = {}
        self._queued: dict[Wire, list[list[bytes]]] = {}

    # Lives.

    def start(self) -> None:
        """Run with what its configuration file says."""
        world = self.world
        self.alive = True
        self.silent = False
        self.paused = False
        self.life += 1
        self.run_id = f"{self.draw.getrandbits(160):040x}"
        self.master = self.disk
        self.busy = False
        self.link_up = False
        self.link_down_since = world.timeline.now
        if self.life > 1:
            self.loading_until = world.timeline.now + self.draw.choice([0.0, 0.2, 3.0])
        life = self.life
        world.timeline.after(self.draw.random() * TICK, lambda: self._tick(life))

    def crash(self, *, power: bool) -> None:
        """End."""
        self.alive = False
        self.silent = power
        self.clients.clear()
        self.subscribers.clear()
        self._queued.clear()
        self.world.wires.crash(self, power=power)

    def _tick(self, life: int) -> None:
        if not self.alive or self.life != life:
            return
        if not self.paused:
            self._replicate()
        self.world.timeline.after(TICK, lambda: self._tick(life))

    def _replicate(self) -> None:
        now = self.world.timeline.now
        if not self.master:
            self.offset += self.draw.randrange(50)
            return
        source = self.world.servers.get(self.master)
        wires = self.world.wires
        up = (
            source is not None
            and source is not self
            and source.alive
            and not source.paused
            and source.loading_until <= now
            and not wires.blocked(self, source)
            and not wires.blocked(source, self)
            and (not source.master or source.link_up)
        )
        if not up or source is None:
            if self.link_up:
                self.link_down_since = now
            self.link_up = False
            return
        if not self.link_up:
            if not self.synchronizing_until:
                self.synchronizing_until = now + self.draw.choice([0.1, 0.1, 1.5])
            if now < self.synchronizing_until:
                return
            self.synchronizing_until = 0.0
            self.link_up = True
            if self.history != source.history or self.offset > source.offset:
                self.history = source.history
                self.offset = source.offset
        self.offset += min(max(0, source.offset - self.offset), self.draw.randrange(100))

    # As a host.

    def accept(self, wire: Wire) -> None:
        self.clients[wire] = None

    def left(self, wire: Wire) -> None:
        self.clients.pop(wire, None)
        self.subscribers.pop(wire, None)
        self._queued.pop(wire, None)

    def take(self, wire: Wire, message: object) -> None:
        assert isinstance(message, list)
        if wire not in self.clients:
            return
        reply = self._execute(wire, message)
        if wire not in self.subscribers:
            wire.reply(reply)

    # Commands.

    def _execute(self, wire: Wire, argv: list[bytes]) -> Reply:
        name = argv[0].upper()
        if name == b"EXEC":
            queued = self._queued.pop(wire, [])
            if self.busy or self._loading:
                return Error(b"EXECABORT Transaction discarded because of previous errors.")
            return [self._run(wire, each) for each in queued]
        if wire in self._queued:
            self._queued[wire].append(argv)
            return b"QUEUED"
        if name == b"MULTI":
            self._queued[wire] = []
            return b"OK"
        if self.busy and name not in (b"SCRIPT", b"SUBSCRIBE"):
            return BUSY
        if self._loading and name not in (b"INFO", b"SUBSCRIBE", b"PUBLISH"):
            return LOADING
        return self._run(wire, argv)

    @property
    def _loading(self) -> bool:
        return self.loading_until > self.world.timeline.now

    def _run(self, wire: Wire, argv: list[bytes]) -> Reply:
        words = [word.decode() for word in argv]
        match words[0].upper(), words[1:]:
            case "PING", _:
                return b"PONG"
            case "INFO", _:
                return self._inform()
            case "SUBSCRIBE", _:
                self.subscribers[wire] = None
            case "PUBLISH", [_, _]:
                for subscriber in self.subscribers:
                    subscriber.reply((argv[1], argv[2]))
                return len(self.subscribers)
            case "SLAVEOF", [host, port]:
                self.follow("" if host == "NO" and port == "ONE" else host)
            case "CONFIG", ["REWRITE"]:
                if not self.keeps:
                    return Error(b"ERR The server is running without a config file")
                self.disk = self.master
            case "CLIENT", ["KILL", "TYPE", kind]:
                for client in list(self.clients):
                    if client is not wire and (client in self.subscribers) == (kind == "pubsub"):
                        client.kill()
                        self.left(client)
            case "SCRIPT", ["KILL"]:
                self.busy = False
            case "CLIENT", ["SETNAME", _]:
                pass
            case _:
                raise AssertionError(f"what is {words}?")
        return b"OK"

    def follow(self, master: str) -> None:
        if master == self.master:
            return
        self.world.note_role(self, master)
        if not master:
            self.history = f"{self.draw.getrandbits(64):x}"
        self.master = master
        self.link_up = False
        self.synchronizing_until = 0.0
        self.link_down_since = self.world.timeline.now

    def _inform(self) -> bytes:
        lines = ["# Server", f"run_id:{self.run_id}", "# Replication"]
        if self.master:
            lines += [
                "role:slave",
                f"master_host:{self.master}",
                f"master_port:{PORT}",
                f"master_link_status:{'up' if self.link_up else 'down'}",
                f"slave_repl_offset:{self.offset}",
                f"slave_priority:{self.priority}",
                "replica_announced:1",
            ]
            if not self.link_up:
                down = int(self.world.timeline.now - self.link_down_since)
                lines.append(f"master_link_down_since_seconds:{down}")
        else:
            lines.append("role:master")
            replicas = [
                server
                for server in self.world.servers.values()
                if server.alive and server.master == self.ip and server.link_up
            ]
            lines += [
                f"slave{i}:ip={replica.ip},port={PORT},state=online,offset={replica.offset},lag=0"
                for i, replica in enumerate(replicas)
            ]
        return ("\r\n".join(lines) + "\r\n").encode()

    # What it wants itself.

    def connected(self, wire: Wire) -> None:
        raise AssertionError("a server connects to nobody")

    def disconnected(self, wire: Wire, reason: str) -> None:
        raise AssertionError("a server connects to nobody")
