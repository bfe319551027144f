"""A node of a simulated cluster: the real machine, and what a server would be to it.

Data are a number, how many writes there have been, and the name of the history that they belong to:
enough to say who has more. A replica catches up with its master while the two reach each other.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from cluster.config_file import format_state, parse_state
from cluster.machine import Link, Machine, Outside, Settings
from cluster.message import FAILOVER_AUTH_ACK, Packet
from cluster.state import MASTER, MYSELF, Node, State, draw_name
from node.rest import LONGEST as LONGEST_REST
from tests.simulation.bus import SimulatedLink
from tests.simulation.timeline import Planned

if TYPE_CHECKING:
    from tests.simulation.cluster import ClusterWorld

TICK: Final = 0.1
EPOCH_MS: Final = 1_700_000_000_000


class Peer(Outside):
    """One node. ``port`` names it in the world, through all its lives."""

    def __init__(self, world: ClusterWorld, port: int) -> None:
        self.world = world
        self.port = port
        self.ip = f"10.0.0.{port % 250 + 1}"
        self.draw = random.Random(f"{world.seed} {port}")
        self.settings = Settings()
        self.alive = False
        self.life = 0
        self.links: dict[SimulatedLink, None] = {}
        self.disk = b""
        self.skew = self.draw.uniform(-2000, 2000)  # its clock against the world's, milliseconds
        self.drift = self.draw.uniform(0.999, 1.001)
        self.offset = 0
        self.history = ""
        self.followed: Node | None = None
        self.heard_at = 0.0
        self.paused_until = 0.0
        self.machine: Machine
        self._serial = 0  # of the newest save that was begun, in all lives
        self._unsaved = 0  # the same, 0 when it is done
        self._written = 0  # of the content on the disk
        self._held: list[tuple[int, SimulatedLink, bytes]] = []
        self._resting = False
        self._planned = Planned(0.0, self.save)

    @property
    def name(self) -> str:
        return self.machine.myself.name

    def lives(self, life: int) -> bool:
        """Whether it is still in that life."""
        return self.alive and self.life == life

    def now(self) -> int:
        """Its time, Unix milliseconds."""
        return int(EPOCH_MS + self.skew + self.world.timeline.now * 1000 * self.drift)

    # Lives.

    def start(self) -> None:
        """Begin a life with what is on the disk."""
        self.alive = True
        self.life += 1
        self.followed = None
        self.paused_until = 0.0
        self._unsaved = 0
        self._held.clear()
        if self.disk:
            state = parse_state(self.disk, self.now())
        else:
            state = State(Node(draw_name(self.draw), MYSELF | MASTER, self.now()))
            state.myself.shard = draw_name(self.draw)
        myself = state.myself
        myself.ip = self.ip
        myself.port = self.port - 10_000
        myself.bus_port = self.port
        self.machine = Machine(state, self.settings, self, self.draw)
        self.save()
        if myself.master is not None:
            self.follow(myself.master)
        self._plan_tick(self.draw.random() * TICK)

    def crash(self, lose_disk: bool) -> None:
        """End the life; what was not on disk is gone, and all if the disk is lost."""
        self.alive = False
        for link in list(self.links):
            self.world.bus.reset(link)
        self.links.clear()
        self._held.clear()
        if lose_disk:
            self.disk = b""
            self.offset = 0
            self.history = ""

    def save(self) -> None:
        """Write what the machine knows, at once."""
        self.machine.unsaved = False
        self._serial += 1
        self._written = self._serial
        self.disk = format_state(self.machine.state)

    # What happens to it.

    def _tick(self, life: int) -> None:
        if not self.lives(life):
            return
        self._replicate()
        self.machine.tick(self.now())
        self.settle()
        # As the server does: longer where there is nothing to do, until something happens.
        rest = min(self.machine.rest(self.now()) / 1000, LONGEST_REST)
        self._resting = rest > TICK
        self._plan_tick(max(TICK, rest) * self.draw.uniform(0.95, 1.3))

    def _plan_tick(self, delay: float) -> None:
        life = self.life
        self._planned.cancel()
        self._planned = self.world.timeline.after(delay, lambda: self._tick(life))

    def opened(self, link: SimulatedLink) -> None:
        self.links[link] = None
        self.machine.link_opened(link, self.now())
        self.settle()

    def lost(self, link: SimulatedLink) -> None:
        self.machine.link_lost(link, self.now())
        self.settle()

    def heard(self, link: SimulatedLink, packet: Packet) -> None:
        self.machine.receive(link, packet, self.now())
        self.settle()

    def settle(self) -> None:
        """As the server does after each event."""
        self.machine.settle(self.now())
        self._hold_unsaved()
        if self._resting and self.machine.rest(self.now()) < TICK * 1000:
            self._resting = False
            self._plan_tick(TICK)
        self.world.check(self)

    def _hold_unsaved(self) -> None:
        """Begin to save; nothing is sent until that is done (rule 1)."""
        if not self.machine.unsaved:
            return
        self.machine.unsaved = False
        self._serial += 1
        number = self._unsaved = self._serial
        content = format_state(self.machine.state)
        life = self.life
        delay = self.draw.expovariate(1 / self.world.disk_slowness)
        self.world.timeline.after(delay, lambda: self._saved(life, number, content))

    def _saved(self, life: int, number: int, content: bytes) -> None:
        if not self.lives(life):
            return
        # Saves may end in another order than they began; the newest content stays.
        if number > self._written:
            self._written = number
            self.disk = content
        kept = []
        for entry in self._held:
            if entry[0] <= number:
                self.world.bus.send(entry[1], entry[2])
            else:
                kept.append(entry)
        self._held = kept
        if number == self._unsaved:
            self._unsaved = 0

    # Replication.

    def _replicate(self) -> None:
        """A tenth of a second of writes, or of catching up."""
        myself = self.machine.myself
        world = self.world
        if myself.is_master:
            if (
                myself.slot_count
                and self.machine.state.up
                and world.timeline.now > self.paused_until
            ):
                self.offset += self.draw.randrange(0, 50)
            return
        master = self.followed
        source = world.find(master.name) if master is not None else None
        if source is None or not source.alive or world.bus.is_cut(self, source):
            return
        self.heard_at = world.timeline.now
        if source.history != self.history:
            self.history = source.history
            self.offset = source.offset if self.draw.random() < 0.3 else 0
        behind = max(0, source.offset - self.offset)
        self.offset += min(behind, self.draw.randrange(0, 200))

    # What the machine wants.

    def open_link(self, node: Node) -> Link:
        link = self.world.bus.open(self, node)
        self.links[link] = None
        return link

    def send(self, link: Link, data: bytes) -> None:
        assert isinstance(link, SimulatedLink)
        self._hold_unsaved()
        if data[12:14] == bytes((0, FAILOVER_AUTH_ACK)):
            self.world.note_vote(self, link)
        if self._unsaved:
            self._held.append((self._unsaved, link, data))
        else:
            self.world.bus.send(link, data)

    def close_link(self, link: Link) -> None:
        assert isinstance(link, SimulatedLink)
        self.world.bus.close(link)

    def follow(self, master: Node) -> None:
        self.followed = master

    def promote(self) -> None:
        if self.followed is not None:
            self.world.note_promotion(self, self.followed.name)
        self.followed = None
        self.history = draw_name(self.draw)

    def is_following(self) -> bool:
        return self.followed is not None

    def replication_offset(self) -> int:
        return self.offset

    def replication_silence(self) -> int:
        return int((self.world.timeline.now - self.heard_at) * 1000)

    def pause_writes(self, until: int) -> None:
        self.paused_until = self.world.timeline.now + (until - self.now()) / 1000

    def resume_writes(self) -> None:
        self.paused_until = 0.0

    def count_keys(self, slot: int) -> int:
        return 0

    def delete_keys(self, slot: int) -> None:
        return None

    def deliver(self, channel: bytes, message: bytes, sharded: bool) -> None:
        return None

    def log(self, level: str, text: str) -> None:
        if level in ("notice", "warning"):
            self.world.trace.note(str(self.port), text)
