"""A sentinel of a simulated world: the real machine and its real config file, on a host."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from node.config.settings import Statement
from node.resp import Error, Reply
from node.words import split_words
from sentinel.config_file import Reader, format_state
from sentinel.connections import HARMLESS
from sentinel.machine import HELLO_CHANNEL, Half, Machine, Outside, Request, Settings
from sentinel.state import Instance, Link, State
from tests.simulation.timeline import Planned
from tests.simulation.wire import Host, Wire

if TYPE_CHECKING:
    from tests.simulation.sentinel import SentinelWorld

PORT: Final = 26379
EPOCH_MS: Final = 1_700_000_000_000

Facts = dict[str, str]
"""The lines of a reply to INFO."""


class Sentinel(Host, Outside):
    """One sentinel, through all its lives.

    ``facts`` is what servers have told it by INFO, by IP, with the time of the world when it came.
    """

    def __init__(self, world: SentinelWorld, ip: str) -> None:
        super().__init__(ip, PORT)
        self.world = world
        self.draw = random.Random(f"{world.seed} {ip}")
        self.settings = Settings()
        self.my_id = f"{self.draw.getrandbits(160):040x}"
        self.skew = self.draw.uniform(0, 2000)
        self.drift = self.draw.uniform(0.999, 1.001)
        self.lateness = self.draw.choice([0.0005, 0.0005, 0.01, 0.05])
        self.machine: Machine
        self.disk: list[bytes] = []
        self.facts: dict[str, tuple[float, Facts]] = {}
        # "before" or "after": what the next save that matters meets; or "told": the next vote.
        self.crash_at = ""
        self._planned: Planned | None = None
        self._planned_for = 0
        self._serial = 0
        self._voted = False
        self._written = 0
        self._unsaved = 0
        self._held: deque[tuple[int, Wire, Request]] = deque()
        self._wires: dict[tuple[Link, Half], Wire] = {}
        self._asked: dict[Wire, deque[Request]] = {}
        self._where: dict[Wire, tuple[Link, Half]] = {}

    def now(self) -> int:
        """Its time, in milliseconds."""
        return int(EPOCH_MS + self.skew + self.world.timeline.now * 1000 * self.drift)

    # Lives.

    def start(self) -> None:
        """Run with what is on the disk."""
        self.alive = True
        self.silent = False
        self.paused = False
        self.life += 1
        self.facts.clear()
        self.crash_at = ""
        self._unsaved = 0
        self._held.clear()
        self._wires.clear()
        self._asked.clear()
        self._where.clear()
        state = State("")
        self.machine = Machine(state, self.settings, self, self.draw)
        statements = []
        for number, line in enumerate(self.disk or self.world.configuration(self)):
            words = split_words(line)
            assert words is not None
            texts = tuple(word.decode() for word in words[1:])
            statements.append(Statement("sentinel", texts, "disk", number, line.decode()))
        Reader(state, lambda host: host, self.now()).read(statements)
        state.port = PORT
        assert state.my_id == self.my_id
        self._save_now()
        self.machine.begin(self.now())
        self._planned = None
        self._settle()

    def crash(self, *, power: bool = False) -> None:
        """End; what was not on the disk is gone."""
        self.alive = False
        self.silent = power
        if self._planned is not None:
            self._planned.cancel()
            self._planned = None
        self.world.wires.crash(self, power=power)

    # Time.

    def _settle(self) -> None:
        """As the component does after each event."""
        if not self.alive:
            return
        self._hold_unsaved()
        if self._voted:
            self._voted = False
            if self._crashes("told"):
                return
        machine = self.machine
        if self._planned is None or machine.deadline < self._planned_for:
            if self._planned is not None:
                self._planned.cancel()
            self._planned_for = machine.deadline
            delay = max(0, machine.deadline - self.now()) / 1000 / self.drift
            delay += self.draw.expovariate(1 / self.lateness)
            life = self.life
            self._planned = self.world.timeline.after(delay, lambda: self._tick(life))
        self.world.check(self)

    def _tick(self, life: int) -> None:
        if not self.alive or self.life != life:
            return
        self._planned = None
        if self.paused:
            self._planned_for = 0
            self._planned = self.world.timeline.after(0.05, lambda: self._tick(life))
            return
        self.machine.tick(self.now())
        self._settle()

    # The disk.

    def _lines(self) -> list[bytes]:
        return [text for _, text, force in format_state(self.machine.state) if force]

    def _save_now(self) -> None:
        self.machine.unsaved = False
        self._serial += 1
        self._written = self._serial
        self.disk = self._lines()
        self._release(self._serial)

    def _hold_unsaved(self) -> None:
        """Begin to save; nothing that tells anything is sent until that is done (rule 1)."""
        if not self.machine.unsaved or not self.alive:
            return
        self.machine.unsaved = False
        self._serial += 1
        number = self._unsaved = self._serial
        content = self._lines()
        life = self.life
        delay = self.draw.expovariate(1 / self.world.disk_slowness)
        self.world.timeline.after(delay, lambda: self._saved(life, number, content))

    def _saved(self, life: int, number: int, content: list[bytes]) -> None:
        if not self.alive or self.life != life:
            return
        if self._crashes("before"):
            return
        if number > self._written:
            self._written = number
            self.disk = content
        if self._crashes("after"):
            return
        self._release(number)

    def _crashes(self, when: str) -> bool:
        """Whether it ends here: with or without what was to be saved, or after it has told it."""
        if self.crash_at != when:
            return False
        self.world.trace.note(self.ip, f"crashes {when} a change")
        self.crash()
        return True

    def _release(self, number: int) -> None:
        while self._held and self._held[0][0] <= number:
            _, wire, request = self._held.popleft()
            self._post(wire, request)
        if self._unsaved <= number:
            self._unsaved = 0

    # Outside.

    def open(self, link: Link, half: Half) -> None:
        assert (link, half) not in self._wires
        wire = self.world.wires.connect(self, link.address.ip, link.address.port, half)
        self._wires[link, half] = wire
        self._where[wire] = (link, half)
        self._asked[wire] = deque()

    def close(self, link: Link, half: Half) -> None:
        wire = self._wires.pop((link, half))
        del self._where[wire]
        wire.close()

    def send(self, link: Link, request: Request) -> None:
        self._hold_unsaved()
        wire = self._wires[link, "commands"]
        words = tuple(word.upper() for word in request.argv[:2])
        harmless = words in HARMLESS or words[:1] in HARMLESS
        if self._unsaved and (request.follows or not harmless):
            self._held.append((self._unsaved, wire, request))
        else:
            self._post(wire, request)

    def _post(self, wire: Wire, request: Request) -> None:
        if wire not in self._where:
            return
        self._asked[wire].append(request)
        self.world.note_request(self, request)
        wire.send(list(request.argv))
        if request.argv[0] == b"SENTINEL" and request.argv[5] != b"*":
            self._voted = True

    def subscribe(self, link: Link, argv: Sequence[bytes]) -> None:
        self._wires[link, "messages"].send(list(argv))

    def local_ip(self, link: Link) -> str:
        return self.ip

    def resolve(self, host: str) -> str:
        raise AssertionError("there are no names")

    def tell(self, level: str, event: str, instance: Instance | None, text: str) -> None:
        self.world.note_event(self, event, instance, text)

    def log(self, level: str, text: str) -> None:
        self.world.trace.note(self.ip, text)

    def run_script(self, path: str, arguments: Sequence[str]) -> None:
        raise AssertionError("there are no scripts")

    # Its connections.

    def connected(self, wire: Wire) -> None:
        where = self._where.get(wire)
        if where is not None:
            self.machine.opened(*where, self.now())
            self._settle()

    def disconnected(self, wire: Wire, reason: str) -> None:
        where = self._where.pop(wire, None)
        if where is not None:
            del self._wires[where]
            self.machine.lost(*where, reason, self.now())
            self._settle()

    def take(self, wire: Wire, message: object) -> None:
        if wire.near is not self:
            self._serve(wire, message)
            return
        where = self._where.get(wire)
        if where is None:
            return
        link, half = where
        if half == "messages":
            if isinstance(message, tuple):
                channel, payload = message
                self.machine.heard(link, channel, payload, self.now())
        else:
            request = self._asked[wire].popleft()
            if request.argv[0] == b"INFO" and isinstance(message, bytes):
                lines = [line.split(":", 1) for line in message.decode().split("\r\n")]
                facts = {line[0]: line[1] for line in lines if len(line) > 1}
                self.facts[link.address.ip] = (self.world.timeline.now, facts)
            self.machine.answered(link, request, message, self.now())
        self._settle()

    # Its clients: other sentinels.

    def accept(self, wire: Wire) -> None:
        return None

    def left(self, wire: Wire) -> None:
        return None

    def _serve(self, wire: Wire, message: object) -> None:
        assert isinstance(message, list)
        reply = self._execute(message)
        # Clients are answered when all is saved, and that is done at once.
        if self.machine.unsaved or self._unsaved:
            if self._crashes("before"):
                return
            self._save_now()
            if self._crashes("after"):
                return
        wire.reply(reply)
        if message[0] == b"SENTINEL" and isinstance(reply, list):
            self.world.note_vote(self, message, reply)
            self._voted = reply[1] != b"*"
        self._settle()

    def _execute(self, argv: list[bytes]) -> Reply:
        now = self.now()
        match argv[0], argv[1:]:
            case b"PING", _:
                return b"PONG"
            case b"CLIENT", _:
                return b"OK"
            case b"PUBLISH", [channel, payload]:
                assert channel == HELLO_CHANNEL
                self.machine.hear_published(payload, now)
                return 1
            case b"SENTINEL", [b"is-master-down-by-addr", ip, port, epoch, run_id]:
                down, leader, leader_epoch = self.machine.is_master_down(
                    ip.decode(), int(port), int(epoch), run_id.decode(), now
                )
                return [int(down), leader.encode(), leader_epoch]
            case _:
                return Error(b"ERR unknown command")

    # What operators do.

    def fail_over(self, name: str) -> None:
        """SENTINEL FAILOVER."""
        self.machine.force_failover(name, self.now())
        self._settle()

    def reset(self, name: str) -> None:
        """SENTINEL RESET."""
        self.machine.reset(name, self.now())
        self._settle()

    def jump(self, milliseconds: float) -> None:
        """Its clock is moved."""
        self.skew += milliseconds
        self.machine.tick(self.now())
        self._settle()

    # Looking.

    def links(self) -> dict[Link, list[Instance]]:
        """All links, and who should be their users."""
        links: dict[Link, list[Instance]] = {}
        for master in self.machine.state.masters.values():
            for instance in master.instances():
                links.setdefault(instance.link, []).append(instance)
        return links
