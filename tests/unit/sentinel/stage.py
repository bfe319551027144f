"""One sentinel's machine on a stage: what it sends is seen, what it hears is said by the test.

Instances are named by port. Those that are ``up`` are connected to as soon as that is tried, and
answer PING with PONG, INFO with what ``infos`` has for their port, and everything else with OK;
others refuse connections. Time passes in :meth:`Stage.run` only.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from node.resp import Reply
from sentinel.machine import HELLO_CHANNEL, Half, Machine, Outside, Request, Settings
from sentinel.state import Address, Instance, Link, Peer, Replica, State

ME = "m" * 40
IP = "10.0.0.1"
MASTER = 1000
START = 1_000_000


def run_id(port: int) -> str:
    """Of whoever is at that port."""
    return f"{port:040d}"


def master_info(port: int, *replicas: int) -> str:
    """What a master says to INFO."""
    lines = [f"run_id:{run_id(port)}", "role:master"]
    lines += [
        f"slave{i}:ip={IP},port={replica},state=online,offset=1,lag=0"
        for i, replica in enumerate(replicas)
    ]
    return "\r\n".join(lines) + "\r\n"


def replica_info(
    port: int, master: int = MASTER, *, offset: int = 10, priority: int = 100, down: int = -1
) -> str:
    """What a replica says to INFO; ``down``: the seconds since its link to its master broke."""
    lines = [
        f"run_id:{run_id(port)}",
        "role:slave",
        f"master_host:{IP}",
        f"master_port:{master}",
        f"master_link_status:{'up' if down < 0 else 'down'}",
        f"slave_repl_offset:{offset}",
        f"slave_priority:{priority}",
        "replica_announced:1",
    ]
    if down >= 0:
        lines.append(f"master_link_down_since_seconds:{down}")
    return "\r\n".join(lines) + "\r\n"


class Stage(Outside):
    """The outside of a machine that guards ``mymaster`` at port 1000."""

    def __init__(self, *replicas: int, peers: int = 2, quorum: int = 2, seed: int = 1) -> None:
        self.now = START
        self.up: set[int] = {MASTER, *replicas}
        self.infos: dict[int, str] = {MASTER: master_info(MASTER, *replicas)}
        self.pongs: dict[int, Reply] = {}
        self.silent: set[int] = set()  # connected, but without an answer
        self.events: list[str] = []
        self.logged: list[str] = []
        self.scripts: list[list[str]] = []
        self.sent: list[tuple[int, str]] = []  # all but PING, INFO and hellos
        self.hellos: list[tuple[int, str]] = []
        self.count: dict[str, int] = {}
        self.asked: list[tuple[Link, Request]] = []  # without an answer: votes and views
        self.opened: list[tuple[int, Half]] = []
        self.closed: list[tuple[int, Half]] = []
        self.names: dict[str, str] = {}
        self.crashed = False
        self.echo = True  # whether the sentinel hears what it publishes
        self._due: list[tuple[Link, Half]] = []
        self._answers: list[tuple[Link, Request, Reply]] = []
        self._echoes: list[tuple[Link, bytes]] = []
        for port in replicas:
            self.infos[port] = replica_info(port)
        state = State(ME)
        state.port = 26379
        self.machine = Machine(state, Settings(), self, Random(seed))
        self.master = self.machine.monitor("mymaster", Address(IP, MASTER), quorum, self.now)
        self.master.down_after = 1000
        self.master.failover_timeout = 20_000
        self.machine.changed(self.master, self.now)
        self.run(100)
        for i in range(peers):
            self.meet(2000 + i)
        self.run(3000)
        self.events.clear()
        self.sent.clear()

    # Who is there.

    def replica(self, port: int) -> Replica:
        return self.master.replicas[f"{IP}:{port}"]

    def peer(self, port: int) -> Peer:
        return self.master.peers[run_id(port)]

    def meet(self, port: int, epoch: int = 0, config_epoch: int = 0, master: int = MASTER) -> None:
        """A sentinel says hello."""
        self.up.add(port)
        self.hear(port, epoch, config_epoch, master)
        self.run(100)

    def hear(self, port: int, epoch: int = 0, config_epoch: int = 0, master: int = MASTER) -> None:
        """A sentinel says hello."""
        self.machine.hear_published(
            f"{IP},{port},{run_id(port)},{epoch},mymaster,{IP},{master},{config_epoch}".encode(),
            self.now,
        )

    # Time.

    def run(self, duration: int) -> None:
        """Let time pass."""
        end = self.now + duration
        self._settle()
        ticks = 0
        while True:
            next_time = max(self.now, self.machine.deadline)
            if next_time > end:
                break
            ticks += 1
            assert ticks < duration + 100
            self.now = next_time
            self.machine.tick(self.now)
            self._settle()
        self.now = end

    def run_until(self, event: str, limit: int = 60_000) -> None:
        """Let time pass until an event of that name has been told."""
        end = self.now + limit
        while event not in self.names_of_events():
            assert self.now < end, self.events
            self.run(1)

    def _settle(self) -> None:
        rounds = 0
        while self._due or self._answers or self._echoes:
            rounds += 1
            assert rounds < 1000, "there is no end of it"
            due, self._due = self._due, []
            for link, half in due:
                if link.address.port in self.up:
                    self.machine.opened(link, half, self.now)
                else:
                    self.machine.lost(link, half, "Connection refused", self.now)
            echoes, self._echoes = self._echoes, []
            for link, payload in echoes:
                if link.messages_open and link.address.port not in self.silent:
                    self.machine.heard(link, HELLO_CHANNEL, payload, self.now)
            answers, self._answers = self._answers, []
            for link, request, reply in answers:
                if link.commands_open:
                    self.machine.answered(link, request, reply, self.now)

    def kill(self, *ports: int) -> None:
        """Their connections are reset, and there are no others."""
        for port in ports:
            self.up.discard(port)
            for instance in list(self.master.instances()):
                link = instance.link
                if link.address.port == port:
                    halves: list[Half] = ["commands", "messages"] if link.listens else ["commands"]
                    for half in halves:
                        self.machine.lost(link, half, "reset", self.now)
        self._settle()

    # Answers.

    def verdict(self, port: int, down: int, leader: str = "*", epoch: int = 0) -> None:
        """A sentinel answers the last thing that it was asked about the master."""
        for i in range(len(self.asked) - 1, -1, -1):
            link, request = self.asked[i]
            if link.address.port == port:
                del self.asked[i]
                reply = [down, leader.encode(), epoch]
                self.machine.answered(link, request, reply, self.now)
                self._settle()
                return
        raise AssertionError(f"{port} was not asked")

    def agree(self, epoch: int = 0) -> None:
        """All sentinels that were asked say that it is down, and vote for this one in an epoch."""
        for link, _ in list(self.asked):
            self.verdict(link.address.port, 1, ME if epoch else "*", epoch)

    # Outside.

    def open(self, link: Link, half: Half) -> None:
        self.opened.append((link.address.port, half))
        self._due.append((link, half))

    def close(self, link: Link, half: Half) -> None:
        self.closed.append((link.address.port, half))
        self._due = [due for due in self._due if due != (link, half)]
        if half == "commands":
            self._answers = [answer for answer in self._answers if answer[0] is not link]

    def send(self, link: Link, request: Request) -> None:
        port = link.address.port
        words = [word.decode() for word in request.argv]
        self.count[words[0]] = self.count.get(words[0], 0) + 1
        reply: Reply = b"OK"
        if words[0] == "PING":
            reply = self.pongs.get(port, b"PONG")
        elif words[0] == "INFO":
            reply = self.infos.get(port, "").encode()
        elif words[0] == "PUBLISH":
            self.hellos.append((port, words[2]))
            reply = 1
            if link.messages_open and self.echo:
                self._echoes.append((link, request.argv[2]))
        else:
            self.sent.append((port, " ".join(words)))
            if words[0] == "SENTINEL":
                self.asked.append((link, request))
                return
        if port not in self.silent:
            self._answers.append((link, request, reply))

    def subscribe(self, link: Link, argv: Sequence[bytes]) -> None:
        self.sent.append((link.address.port, "~" + b" ".join(argv).decode()))

    def local_ip(self, link: Link) -> str:
        return "10.0.0.9"

    def resolve(self, host: str) -> str:
        return self.names.get(host, "")

    def tell(self, level: str, event: str, instance: Instance | None, text: str) -> None:
        if level != "debug":
            self.events.append(f"{event} {text}")

    def log(self, level: str, text: str) -> None:
        self.logged.append(text)

    def run_script(self, path: str, arguments: Sequence[str]) -> None:
        self.scripts.append([path, *arguments])

    def crash(self) -> None:
        self.crashed = True

    # Looking.

    def names_of_events(self) -> list[str]:
        """The events so far, without their payloads."""
        return [event.split(" ")[0] for event in self.events]

    def take_sent(self, port: int) -> list[str]:
        """What was sent to somebody since the last call, but for what is sent all the time."""
        taken = [text for to, text in self.sent if to == port]
        self.sent = [entry for entry in self.sent if entry[0] != port]
        return taken
