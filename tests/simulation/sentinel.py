"""The world of the sentinels: masters with replicas, who guards them, and all that fails.

What must hold after each step:

- In an epoch there is one leader for a master at most, of those that are elected; and one
  configuration (who is master), of those that come of elections.
- A sentinel votes once in an epoch for each master, whatever it goes through: for others or itself,
  as far as anybody hears of it.
- Epochs that a sentinel tells, its own and those of its configurations, never go back, not even
  when it is started again.
- Who is chosen to be master is not worse than another replica that could be reached: by link,
  priority, offset and run id as they have told this sentinel.
- A machine's data are consistent in themselves.

Once nothing fails any more, within a few minutes all sentinels agree on each master and on its
config epoch, nobody is down for anybody, and all other servers are replicas of that master.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Final, TextIO

from sentinel.machine import TICK, Refused, Request
from sentinel.state import (
    FAILOVER_IN_PROGRESS,
    FORCE_FAILOVER,
    PROMOTED,
    RECONF_SLAVES,
    S_DOWN,
    SEND_SLAVEOF_NOONE,
    Instance,
    Master,
    Replica,
)
from tests.simulation.schedule import Deed, Schedule
from tests.simulation.served import PORT, Server
from tests.simulation.timeline import Timeline
from tests.simulation.trace import Broken, Trace
from tests.simulation.watching import Facts, Sentinel
from tests.simulation.wire import Host, Wires

TURBULENCE: Final = 60.0
CONVERGENCE: Final = 180.0
LIMIT: Final = 3_000_000
FRESHNESS: Final = 0.5
VALID: Final = 5.0


class SentinelWorld:
    """One run, from one seed."""

    def __init__(self, seed: int, trace: Trace, timeline: Timeline) -> None:
        self.seed = seed
        self.trace = trace
        self.timeline = timeline
        self.draw = random.Random(seed)
        self.wires = Wires(timeline, random.Random(seed + 1))
        self.wires.slowness = self.draw.choice([0.0005, 0.002, 0.02])
        self.disk_slowness = self.draw.choice([0.0005, 0.01, 0.05])
        self.down_after = self.draw.choice([1000, 1000, 3000, 5000])
        self.failover_timeout = self.draw.choice([3000, 10_000, 20_000])
        self.parallel_syncs = self.draw.choice([1, 1, 3])
        self.servers: dict[str, Server] = {}
        self.groups: dict[str, list[Server]] = {}
        self.sentinels: list[Sentinel] = []
        self.quorum = 2
        self.counts: dict[str, int] = {}
        self._steps = 0
        self._moves = 0  # of sentinels to another address
        # By master and epoch.
        self.leaders: dict[tuple[str, int], str] = {}
        self.configurations: dict[tuple[str, int], str] = {}
        self.elected: set[tuple[str, int]] = set()
        # Nobody is asked for those: elsewhere another leader may have been elected in the epoch.
        self.forced: set[tuple[str, int]] = set()
        # By sentinel, master and epoch.
        self.votes: dict[tuple[str, str, int], str] = {}
        # By sentinel and master: epochs that it has told, its own and the configuration's.
        self.epochs: dict[tuple[str, str], tuple[int, int]] = {}

    # Building.

    def configuration(self, sentinel: Sentinel) -> list[bytes]:
        """What an operator has written into the file of a new sentinel."""
        lines = [f"sentinel myid {sentinel.my_id}"]
        for name, servers in self.groups.items():
            lines += [
                f"sentinel monitor {name} {servers[0].ip} {PORT} {self.quorum}",
                f"sentinel down-after-milliseconds {name} {self.down_after}",
                f"sentinel failover-timeout {name} {self.failover_timeout}",
                f"sentinel parallel-syncs {name} {self.parallel_syncs}",
            ]
        return [line.encode() for line in lines]

    def build(self) -> None:
        """Start all, and let them get to know each other."""
        draw = self.draw
        for i in range(draw.choice([1, 1, 2, 3])):
            name = f"group{i}"
            group: list[Server] = []
            for j in range(1 + draw.choice([1, 2, 2, 3])):
                ip = f"10.0.{i + 1}.{j + 1}"
                server = Server(self, ip, name, group[0].ip if group else "")
                self.servers[ip] = server
                self.wires.hosts[ip, PORT] = server
                group.append(server)
            # Two at least that may be masters: each could be the last one that knows nobody else.
            for server in group[:2]:
                server.priority = server.priority or 100
            self.groups[name] = group
            for server in group:
                server.start()
        number = draw.choice([3, 3, 3, 4, 5, 5, 7])
        # Without turns they all ask for votes at once, as those of Redis may.
        turn = draw.choice([100, 100, 0])
        self.quorum = draw.choice([2, number // 2 + 1, number // 2 + 1])
        for i in range(number):
            sentinel = Sentinel(self, f"10.0.0.{i + 1}")
            self.wires.hosts[sentinel.ip, sentinel.port] = sentinel
            sentinel.settings.election_turn = turn
            self.sentinels.append(sentinel)
        for sentinel in self.sentinels:
            sentinel.start()
        self.run_until(15.0)
        for sentinel in self.sentinels:
            for name, group in self.groups.items():
                master = sentinel.machine.state.masters[name]
                if len(master.peers) != number - 1:
                    raise Broken(f"{sentinel.ip} does not know all others in 15 s")
                if len(master.replicas) != len(group) - 1:
                    raise Broken(f"{sentinel.ip} does not know all replicas in 15 s")
        self.trace.note("world", f"{number} sentinels, quorum {self.quorum}")

    def run_until(self, when: float) -> None:
        """Let time pass."""
        timeline = self.timeline
        while timeline.next_time <= when:
            timeline.advance(timeline.next_time)
        timeline.advance(when)

    def _count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    # What must hold.

    def note_vote(self, sentinel: Sentinel, argv: list[bytes], reply: list[object]) -> None:
        """A sentinel answers another one: that is a vote if it names somebody."""
        leader, epoch = reply[1], reply[2]
        assert isinstance(leader, bytes)
        assert isinstance(epoch, int)
        if leader != b"*":
            for name, master in sentinel.machine.state.masters.items():
                if master.leader == leader.decode() and master.leader_epoch == epoch:
                    if master.address.ip == argv[2].decode():
                        self._vote(sentinel, name, epoch, leader.decode())

    def _vote(self, sentinel: Sentinel, name: str, epoch: int, leader: str) -> None:
        before = self.votes.setdefault((sentinel.my_id, name, epoch), leader)
        if before != leader:
            raise Broken(
                f"{sentinel.ip} votes for {leader[:8]} and {before[:8]} of {name} in epoch {epoch}"
            )

    def note_request(self, sentinel: Sentinel, request: Request) -> None:
        """A sentinel sends something: it may tell what it knows, or seek votes."""
        instance = request.instance
        master = getattr(instance, "master", instance)
        assert isinstance(master, Master)
        if request.argv[0] == b"PUBLISH":
            fields = request.argv[2].decode().split(",")
            self._hear(sentinel, fields[4], int(fields[3]), int(fields[7]), fields[5])
        elif request.argv[0] == b"SENTINEL" and request.argv[5] != b"*":
            self._vote(sentinel, master.name, int(request.argv[4]), sentinel.my_id)

    def _hear(
        self, sentinel: Sentinel, name: str, epoch: int, config_epoch: int, master: str
    ) -> None:
        key = (sentinel.my_id, name)
        before = self.epochs.get(key, (0, 0))
        if epoch < before[0] or config_epoch < before[1]:
            raise Broken(f"{sentinel.ip} goes back from {before} to {epoch}, {config_epoch}")
        self.epochs[key] = (epoch, config_epoch)
        failover = (name, config_epoch)
        if failover in self.elected and failover not in self.forced:
            known = self.configurations.setdefault(failover, master)
            if known != master:
                raise Broken(
                    f"{sentinel.ip} has {master} in epoch {config_epoch} of {name}, others {known}"
                )

    def note_event(
        self, sentinel: Sentinel, event: str, instance: Instance | None, text: str
    ) -> None:
        """A sentinel tells something."""
        self.trace.note(sentinel.ip, f"{event} {text}")
        self._count(event)
        if event == "+elected-leader":
            assert isinstance(instance, Master)
            if instance.has(FORCE_FAILOVER):
                self.forced.add((instance.name, instance.failover_epoch))
            else:
                self._elect(sentinel, instance)
        elif event == "+selected-slave":
            assert isinstance(instance, Replica)
            self._judge_choice(sentinel, instance)

    def _elect(self, sentinel: Sentinel, master: Master) -> None:
        key = (master.name, master.failover_epoch)
        self.elected.add(key)
        before = self.leaders.setdefault(key, sentinel.my_id)
        if before != sentinel.my_id:
            raise Broken(
                f"{sentinel.my_id[:8]} and {before[:8]} lead {master.name} in epoch {key[1]}"
            )

    def _judge_choice(self, sentinel: Sentinel, chosen: Replica) -> None:
        master = chosen.master
        best = self._rate(sentinel, chosen)
        if best is None:
            raise Broken(f"{sentinel.ip} chooses {chosen.name}, which is not good")
        for replica in master.replicas.values():
            rating = self._rate(sentinel, replica)
            if rating is None or rating >= best or not self._is_reachable(sentinel, replica):
                continue
            raise Broken(f"{sentinel.ip} chooses {chosen.name} {best}, not {replica.name} {rating}")
        # Nor has it chosen by what it was told before the master was lost, if it could know more.
        server = self.servers[chosen.address.ip]
        told = sentinel.facts[chosen.address.ip][0]
        age = (sentinel.machine.now - master.failover_state_since) / 1000
        lost = self.timeline.now - (sentinel.machine.now - master.s_down_since) / 1000
        if master.has(S_DOWN) and told < lost - 0.01 and age < FRESHNESS and not server.paused:
            raise Broken(f"{sentinel.ip} chooses {chosen.name} by old news")

    def _rate(self, sentinel: Sentinel, replica: Replica) -> tuple[int, int, str] | None:
        """How good a replica is by what it has told, the less the better; None: not to be had."""
        entry = sentinel.facts.get(replica.address.ip)
        if entry is None:
            return None
        told, facts = entry
        master = replica.master
        validity = VALID if master.has(S_DOWN) else 30.0
        if self.timeline.now - told > validity * 1.01:
            return None
        if facts["role"] == "master" == master.role_reported and not master.has(S_DOWN):
            return None  # it was the master before, and lacks what has been written since
        priority = self._last(sentinel, replica, facts, "slave_priority")
        if priority == 0:
            return None
        down = int(facts.get("master_link_down_since_seconds", 0)) * 1000
        longest = 10 * self.down_after
        if master.has(S_DOWN):
            longest += sentinel.machine.now - master.s_down_since
            if master.role_reported == "slave":
                longest = down  # nobody can follow a master that is none
        if down > longest:
            return None
        offset = self._last(sentinel, replica, facts, "slave_repl_offset")
        return priority, -offset, facts["run_id"]

    def _last(self, sentinel: Sentinel, replica: Replica, facts: Facts, name: str) -> int:
        """A replica that says it is a master says less; then what it said before counts."""
        if name in facts:
            return int(facts[name])
        return replica.priority if name == "slave_priority" else replica.offset

    def _is_reachable(self, sentinel: Sentinel, replica: Replica) -> bool:
        """Whether a replica could be reached at this moment, and the sentinel has to know it."""
        server = self.servers[replica.address.ip]
        link = replica.link
        return (
            server.alive
            and not server.paused
            and not self.wires.blocked(sentinel, server)
            and not self.wires.blocked(server, sentinel)
            and link.commands_open
            and not replica.has(S_DOWN)
            and sentinel.machine.now - link.last_available <= VALID * 1000
        )

    def check(self, sentinel: Sentinel) -> None:
        """What must hold after each step of a sentinel."""
        self._steps += 1
        if self._steps > LIMIT:
            raise Broken("more steps than there can be")
        machine = sentinel.machine
        if machine.deadline > machine.now + TICK:
            raise Broken(f"{sentinel.ip} does not want to be woken")
        if self._steps % 20:
            return
        for link, users in sentinel.links().items():
            if sorted(map(id, link.users)) != sorted(map(id, users)):
                raise Broken(f"{sentinel.ip} has lost a link to {link.address}")
        for master in machine.state.masters.values():
            promoted = master.promoted
            if promoted is not None and (
                master.replicas.get(promoted.name) is not promoted or not promoted.has(PROMOTED)
            ):
                raise Broken(f"{sentinel.ip} promotes somebody who is no replica")
            busy = master.failover_state != 0
            if busy != master.has(FAILOVER_IN_PROGRESS):
                raise Broken(f"{sentinel.ip} is failing over, or is not")
            if promoted is None and master.failover_state >= SEND_SLAVEOF_NOONE:
                raise Broken(f"{sentinel.ip} has nobody to promote")
            if master.failover_state == RECONF_SLAVES:
                if master.config_epoch < master.failover_epoch:
                    raise Broken(f"{sentinel.ip} promotes without an epoch")

    def note_role(self, server: Server, master: str) -> None:
        """A server is told whom to follow."""
        self.trace.note(server.ip, f"follows {master or 'nobody'}")
        self._count("changes of role")

    # Faults.

    def _pick_server(self) -> Server:
        return self.draw.choice(list(self.servers.values()))

    def _crash_server(self) -> str | None:
        server = self._pick_server()
        # Mostly masters, of which something follows.
        if server.master and self.draw.random() < 0.5 and server.master in self.servers:
            server = self.servers[server.master]
        if not server.alive:
            return None
        power = self.draw.random() < 0.3
        server.crash(power=power)
        self._later(self.draw.choice([0.5, 5.0, 15.0]), lambda: self._revive(server))
        return f"{server.ip}{' without power' if power else ''}"

    def _later(self, mean: float, action: Callable[[], None]) -> None:
        self.timeline.after(self.draw.expovariate(1 / mean), action)

    def _revive(self, host: Server | Sentinel) -> None:
        if not host.alive:
            if isinstance(host, Sentinel) and self.draw.random() < 0.1:
                self._move(host)
            self.trace.note(host.ip, "comes back")
            host.start()

    def _move(self, sentinel: Sentinel) -> None:
        """It comes back with another address, as from a new container."""
        del self.wires.hosts[sentinel.ip, sentinel.port]
        self._moves += 1
        self.trace.note(sentinel.ip, f"is 10.9.0.{self._moves} from now on")
        sentinel.ip = f"10.9.0.{self._moves}"
        self.wires.hosts[sentinel.ip, sentinel.port] = sentinel

    def _crash_group(self) -> str | None:
        """Several servers of a master at once."""
        group = self.draw.choice(list(self.groups.values()))
        fallen = [server for server in group if server.alive and self.draw.random() < 0.6]
        for server in fallen:
            server.crash(power=False)
            self._later(8.0, partial(self._revive, server))
        return ", ".join(server.ip for server in fallen) or None

    def _crash_sentinel(self) -> str | None:
        sentinel = self.draw.choice(self.sentinels)
        if not sentinel.alive:
            return None
        sentinel.crash(power=self.draw.random() < 0.3)
        self._later(8.0, lambda: self._revive(sentinel))
        return sentinel.ip

    def _crash_at_change(self) -> str | None:
        """A sentinel ends when it next saves something, before or after that, or gives a vote."""
        sentinel = self.draw.choice(self.sentinels)
        if not sentinel.alive:
            return None
        sentinel.crash_at = self.draw.choice(["before", "after", "told", "told"])
        life = sentinel.life
        pause = self.draw.choice([0.1, 3.0])

        def revive() -> None:
            if not sentinel.alive and sentinel.life == life:
                self._revive(sentinel)
            elif sentinel.alive and sentinel.life == life and sentinel.crash_at:
                self._later(pause, revive)

        self._later(pause, revive)
        return f"{sentinel.ip} {sentinel.crash_at}"

    def _pause(self) -> str | None:
        host = self.draw.choice(self._hosts())
        if not host.alive or host.paused:
            return None
        host.paused = True
        life = host.life

        def go_on() -> None:
            if host.life == life:
                host.paused = False

        self._later(self.draw.choice([0.3, 1.5, 6.0]), go_on)
        return host.ip

    def _cut(self) -> str | None:
        """A group of hosts cannot be reached by the others, or cannot reach them, or both."""
        hosts = self._hosts()
        size = self.draw.choice([1, 1, 2, len(hosts) // 2])
        inside = self.draw.sample(hosts, size)
        kind = self.draw.choice(["from", "to", "from and to", "from and to"])
        cut: set[tuple[Host, Host]] = set()
        for one in hosts:
            for other in hosts:
                if (one in inside) != (other in inside):
                    if ("from" in kind and one in inside) or ("to" in kind and other in inside):
                        cut.add((one, other))
        self.wires.cut |= cut

        def heal() -> None:
            self.trace.note("world", "a cut heals")
            self.wires.cut -= cut

        self._later(self.draw.choice([1.0, 5.0, 12.0]), heal)
        return f"{kind} {', '.join(sorted(host.ip for host in inside))}"

    def _reset(self) -> str | None:
        wires = list(self.wires.wires)
        if not wires:
            return None
        wire = self.draw.choice(wires)
        if not wire.far_there:
            return None
        self.wires.reset(wire)
        return f"{wire.near.ip} to {wire.far.ip if wire.far is not None else ''}"

    def _stall(self) -> str | None:
        """A connection delivers nothing any more, in one direction, and nobody is told."""
        wires = list(self.wires.wires)
        if not wires:
            return None
        wire = self.draw.choice(wires)
        direction = self.draw.choice([wire.forth, wire.back])
        direction.stalled = True
        return f"{wire.near.ip} to {wire.far.ip if wire.far is not None else ''}"

    def _jump(self) -> str | None:
        sentinel = self.draw.choice(self.sentinels)
        if not sentinel.alive or sentinel.paused:
            return None
        by = self.draw.choice([-3_600_000, -5000, -500, 500, 1500, 5000, 3_600_000])
        sentinel.jump(by)
        return f"{sentinel.ip} by {by} ms"

    def _make_busy(self) -> str | None:
        server = self._pick_server()
        server.busy = True
        life = server.life

        def end() -> None:
            if server.life == life:
                server.busy = False

        self._later(6.0, end)
        return server.ip

    def _force(self) -> str | None:
        """SENTINEL FAILOVER; now and then two operators have the same idea."""
        name = self.draw.choice(list(self.groups))
        told = []
        for sentinel in self.draw.sample(self.sentinels, self.draw.choice([1, 1, 2])):
            if sentinel.alive and not sentinel.paused:
                try:
                    sentinel.fail_over(name)
                    told.append(sentinel.ip)
                except Refused as refused:
                    told.append(f"{sentinel.ip} ({refused})")
        return f"{name} by {' and '.join(told)}" if told else None

    def _forget(self) -> str | None:
        """SENTINEL RESET; only where the quorum sees to it that majorities stay what they are."""
        sentinel = self.draw.choice(self.sentinels)
        name = self.draw.choice(list(self.groups))
        if not sentinel.alive or sentinel.paused or self.quorum <= len(self.sentinels) // 2:
            return None
        sentinel.reset(name)
        return f"{sentinel.ip} {name}"

    def _meddle(self) -> str | None:
        """An operator tells a server whom to follow, past the sentinels."""
        group = self.draw.choice(list(self.groups.values()))
        server = self.draw.choice(group)
        if not server.alive:
            return None
        master = self.draw.choice(["", *(other.ip for other in group if other is not server)])
        server.follow(master)
        return f"{server.ip} {master or 'nobody'}"

    def _slow_down(self) -> str | None:
        slowness = self.draw.choice([0.0005, 0.002, 0.05])
        self.wires.slowness = slowness
        return f"{slowness * 1000} ms"

    # Running.

    def run(self) -> None:
        """Build, let things fail, and see that all agree in the end."""
        self.build()
        draw = self.draw
        deeds: list[Deed] = [
            ("kill", 6.0, self._crash_server),
            ("kill several", 1.5, self._crash_group),
            ("kill sentinel", 2.0, self._crash_sentinel),
            ("crash at a change", 3.0, self._crash_at_change),
            ("pause", 3.0, self._pause),
            ("cut", 4.0, self._cut),
            ("reset", 3.0, self._reset),
            ("stall", 2.0, self._stall),
            ("jump", draw.choice([0.0, 1.0]), self._jump),
            ("busy", 1.0, self._make_busy),
            ("force", draw.choice([0.0, 1.0]), self._force),
            ("forget", draw.choice([0.0, 0.5]), self._forget),
            ("meddle", draw.choice([0.0, 0.5]), self._meddle),
            ("slow down", 0.5, self._slow_down),
        ]
        note = self.trace.note
        schedule = Schedule(
            self.timeline,
            draw,
            deeds,
            draw.choice([1.0, 3.0, 8.0]),
            lambda what: note("world", what),
        )
        self.run_until(self.timeline.now + TURBULENCE)
        schedule.stop()
        for name, count in schedule.counts.items():
            self.counts[name] = self.counts.get(name, 0) + count
        self._calm()
        began = self.timeline.now
        reason = "it has not been looked"
        while self.timeline.now - began < CONVERGENCE:
            self.run_until(self.timeline.now + 5.0)
            reason = self.find_disagreement()
            if not reason:
                break
        if reason:
            raise Broken(f"after {CONVERGENCE:.0f} s: {reason}")
        self.counts["messages"] = self.wires.delivered
        self.counts["seconds to agree"] = int(self.timeline.now - began)

    def _hosts(self) -> list[Server | Sentinel]:
        return [*self.servers.values(), *self.sentinels]

    def _calm(self) -> None:
        self.wires.cut.clear()
        self.wires.slowness = 0.002
        for host in self._hosts():
            host.paused = False
            if isinstance(host, Server):
                host.busy = False
            else:
                host.crash_at = ""
            self._revive(host)
        # What was planned during the turbulence is over by then, too.
        self.run_until(self.timeline.now + 30.0)
        for host in self._hosts():
            host.paused = False
            self._revive(host)
        self.wires.cut.clear()
        self.trace.note("world", "nothing fails any more")

    def find_disagreement(self) -> str:
        """Why the sentinels do not agree yet, or servers do not obey; empty when all is well."""
        for name, group in self.groups.items():
            first = self.sentinels[0].machine.state.masters[name]
            address = first.current_address.ip
            for sentinel in self.sentinels:
                master = sentinel.machine.state.masters[name]
                if master.current_address.ip != address:
                    return f"{sentinel.ip} has another master of {name}"
                if master.config_epoch != first.config_epoch:
                    return f"{sentinel.ip} has another epoch of {name}"
                if master.has(FAILOVER_IN_PROGRESS):
                    return f"{sentinel.ip} fails {name} over"
                if sentinel.machine.tilt:
                    return f"{sentinel.ip} is in TILT"
                if len(master.peers) != len(self.sentinels) - 1:
                    return f"{sentinel.ip} does not know all others"
                for instance in master.instances():
                    if instance.has(S_DOWN):
                        return f"{instance.name} is down for {sentinel.ip}"
            for server in group:
                if server.ip == address:
                    if server.master:
                        return f"{server.ip} is no master"
                elif server.master != address:
                    return f"{server.ip} follows {server.master or 'nobody'}"
                elif not server.link_up:
                    return f"{server.ip} has no link to its master"
        return ""


def run_sentinel(seed: int, echo: TextIO | None) -> tuple[Trace, dict[str, int]]:
    """One run. Raises Broken."""
    timeline = Timeline()
    trace = Trace(timeline, echo)
    world = SentinelWorld(seed, trace, timeline)
    world.run()
    return trace, world.counts
