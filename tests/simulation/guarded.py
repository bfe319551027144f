"""The world of guarded clusters: nodes below, sentinels above, and all that fails.

The nodes are the machines of the world of the cluster, with ``cluster-replica-no-failover``: nobody
but operators and sentinels promotes a replica. The sentinels are those of their own world.

What must hold after each step:

- In an epoch of the sentinels there is one leader for a master at most, and one replica at most is
  told to take its place (SENTINEL FAILOVER is an operator's word, and asks for no votes).
- A sentinel votes once in an epoch for each master.
- No replica is told to take what the sentinel knows to be another master's by now.
- What a node knows is consistent in itself.

Once nothing fails any more, within a few minutes: every slot has one owner, who lives, for all
nodes; each slot whose move was acknowledged is where it was moved to, or with whoever took that
node's place; and all sentinels call the same shards by the same names, and name those who are
master, under the same epochs. Then a majority of the masters is killed at once, for good: each of
them that has a replica is replaced, and the cluster is whole again without them.
"""

from __future__ import annotations

import random
from functools import partial
from typing import Final, TextIO

from cluster.description import describe_nodes
from cluster.slots import SLOTS
from cluster.state import slot_bits
from node.resp import Error, Reply
from sentinel.machine import TICK, Refused, Request
from sentinel.state import (
    FAILOVER_IN_PROGRESS,
    FORCE_FAILOVER,
    S_DOWN,
    Instance,
    Master,
    Replica,
)
from tests.simulation.bus import FIRST_BUS_PORT, Bus, SimulatedLink
from tests.simulation.peer import Peer
from tests.simulation.schedule import Deed, Schedule
from tests.simulation.timeline import Timeline
from tests.simulation.trace import Broken, Trace
from tests.simulation.watching import Sentinel
from tests.simulation.wire import Host, Wire, Wires

TURBULENCE: Final = 60.0
CONVERGENCE: Final = 240.0
RECOVERY: Final = 120.0
BUS_DISTANCE: Final = 10_000
LIMIT: Final = 5_000_000
NAME: Final = "shop"


class Member(Host):
    """A node's port for clients, on which sentinels talk to it."""

    def __init__(self, world: GuardedWorld, peer: Peer) -> None:
        super().__init__(peer.ip, peer.port - BUS_DISTANCE)
        self.world = world
        self.peer = peer
        self.run_id = ""
        self.clients: dict[Wire, None] = {}
        self.subscribers: dict[Wire, None] = {}

    def start(self) -> None:
        """Begin a life, together with the node."""
        self.alive = True
        self.silent = False
        self.life += 1
        self.run_id = f"{self.world.draw.getrandbits(160):040x}"
        self.peer.start()

    def crash(self, *, power: bool) -> None:
        """End it."""
        self.alive = False
        self.silent = power
        self.clients.clear()
        self.subscribers.clear()
        self.peer.crash(lose_disk=False)
        self.world.wires.crash(self, power=power)

    # As a host.

    def accept(self, wire: Wire) -> None:
        self.clients[wire] = None

    def left(self, wire: Wire) -> None:
        self.clients.pop(wire, None)
        self.subscribers.pop(wire, None)

    def connected(self, wire: Wire) -> None:
        raise AssertionError("a node connects to no client")

    def disconnected(self, wire: Wire, reason: str) -> None:
        raise AssertionError("a node connects to no client")

    def take(self, wire: Wire, message: object) -> None:
        assert isinstance(message, list)
        if wire not in self.clients:
            return
        reply = self._execute(wire, [word.decode() for word in message])
        if wire not in self.subscribers:
            wire.reply(reply)

    def _execute(self, wire: Wire, words: list[str]) -> Reply:
        match words[0].upper(), words[1:]:
            case "PING", _:
                return b"PONG"
            case "CLIENT", _:
                return b"OK"
            case "INFO", _:
                return self._inform()
            case "SUBSCRIBE", _:
                self.subscribers[wire] = None
                return b"OK"
            case "PUBLISH", [channel, payload]:
                self.world.publish(self, (channel.encode(), payload.encode()))
                return 0
            case "CLUSTER", ["NODES"]:
                return describe_nodes(self.peer.machine.state).encode()
            case "CLUSTER", ["MYSHARDID"]:
                if not self.world.has_shard_ids:
                    return Error(b"ERR unknown subcommand 'MYSHARDID'. Try CLUSTER HELP.")
                return self.peer.machine.myself.shard.encode()
            case "CLUSTER", ["FAILOVER", *how]:
                return self._fail_over(how == ["TAKEOVER"])
            case "CLUSTER", ["SETSLOT", slot, "NODE", name]:
                machine = self.peer.machine
                node = machine.state.find(name)
                assert node is not None
                machine.set_slot(int(slot), node, self.peer.now())
                self._settle()
                return b"OK"
            case _:
                raise AssertionError(f"what is {words}?")

    def publish(self, message: tuple[bytes, bytes]) -> None:
        """Pass a message on to who has subscribed here."""
        for subscriber in self.subscribers:
            subscriber.reply(message)

    def _fail_over(self, takeover: bool) -> Reply:
        machine = self.peer.machine
        if machine.myself.is_master:
            return Error(b"ERR You should send CLUSTER FAILOVER to a replica")
        master = machine.myself.master
        if master is None:
            return Error(b"ERR I'm a replica but my master is unknown to me")
        machine.now = self.peer.now()
        if takeover:
            machine.handover.reset()
            machine.bump_epoch()
            machine.take_over()
        elif master.failed or master.link is None or not master.link.open:
            return Error(b"ERR Master is down or failed, please use CLUSTER FAILOVER FORCE")
        else:
            machine.handover.begin(self.peer.now(), force=False)
        self._settle()
        return b"OK"

    def _settle(self) -> None:
        """A client is answered when all is on disk."""
        self.peer.save()
        self.peer.settle()

    def _inform(self) -> bytes:
        peer = self.peer
        lines = [f"run_id:{self.run_id}"]
        master = peer.machine.myself.master
        if peer.machine.myself.is_master or master is None:
            lines.append("role:master")
        else:
            silence = self.world.timeline.now - peer.heard_at
            up = peer.heard_at > 0 and silence < 1.0
            lines += [
                "role:slave",
                f"master_host:{master.ip}",
                f"master_port:{master.port}",
                f"master_link_status:{'up' if up else 'down'}",
                f"slave_repl_offset:{peer.offset}",
                "slave_priority:100",
                "replica_announced:1",
            ]
            if not up:
                lines.append(f"master_link_down_since_seconds:{int(silence)}")
        return ("\r\n".join(lines) + "\r\n").encode()


class Below:
    """The world as the nodes of the cluster have it."""

    def __init__(self, world: GuardedWorld) -> None:
        self._world = world
        self.seed = world.seed
        self.timeline = world.timeline
        self.trace = world.trace
        self.bus = world.bus
        self.disk_slowness = world.disk_slowness

    def find(self, name: str) -> Peer | None:
        """The node of that name."""
        return next((m.peer for m in self._world.members if m.peer.name == name), None)

    def check(self, peer: Peer) -> None:
        """After each step of a node."""
        self._world.step()
        if self._world.steps % 200 == 0:
            peer.machine.state.check()

    def note_vote(self, peer: Peer, link: SimulatedLink) -> None:
        """The nodes' own votes, for failovers that operators want."""

    def note_promotion(self, peer: Peer, old: str) -> None:
        """A replica has taken its master's place."""
        self._world.count("promotions")
        self._world.successors.setdefault(old, set()).add(peer.name)


class GuardedWorld:
    """One run, from one seed."""

    def __init__(self, seed: int, trace: Trace, timeline: Timeline) -> None:
        self.seed = seed
        self.trace = trace
        self.timeline = timeline
        self.draw = random.Random(seed)
        self.bus = Bus(timeline, random.Random(seed + 1))
        self.bus.slowness = self.draw.choice([0.001, 0.01, 0.05])
        self.wires = Wires(timeline, random.Random(seed + 2))
        self.wires.slowness = self.draw.choice([0.0005, 0.002, 0.02])
        self.disk_slowness = self.draw.choice([0.0005, 0.01, 0.05])
        self.down_after = self.draw.choice([1000, 1000, 3000])
        self.failover_timeout = self.draw.choice([5000, 10_000, 20_000])
        self.node_timeout = self.draw.choice([1000, 2000, 5000])
        self.has_shard_ids = self.draw.random() < 0.5
        self.members: list[Member] = []
        self.sentinels: list[Sentinel] = []
        self.quorum = 2
        self.counts: dict[str, int] = {}
        self.steps = 0
        self.votes: dict[tuple[str, str, int], str] = {}
        self.leaders: dict[tuple[str, int], str] = {}
        self.chosen: dict[tuple[str, int], str] = {}
        self.moves: dict[int, str] = {}  # slot -> the node that has it, as has been acknowledged
        self.pending: dict[int, str] = {}
        self.successors: dict[str, set[str]] = {}

    # Building.

    def configuration(self, sentinel: Sentinel) -> list[bytes]:
        """What an operator has written into the file of a new sentinel."""
        entry = self.draw.choice(self.members)
        lines = [
            f"sentinel myid {sentinel.my_id}",
            f"sentinel monitor-cluster {NAME} {entry.ip} {entry.port} {self.quorum}",
            f"sentinel down-after-milliseconds {NAME} {self.down_after}",
            f"sentinel failover-timeout {NAME} {self.failover_timeout}",
        ]
        return [line.encode() for line in lines]

    def build(self) -> None:
        """Form a cluster, and let the sentinels find it."""
        draw = self.draw
        shards, replicas = draw.choice([(1, 1), (1, 2), (2, 1), (3, 1), (3, 1), (3, 2), (4, 1)])
        below = Below(self)
        for i in range(shards * (replicas + 1)):
            peer = Peer(below, FIRST_BUS_PORT + i)  # type: ignore[arg-type]
            peer.settings.node_timeout = self.node_timeout
            peer.settings.replica_no_failover = True
            member = Member(self, peer)
            self.members.append(member)
            self.bus.peers[peer.port] = peer
            self.wires.hosts[member.ip, member.port] = member
            member.start()
        for i, member in enumerate(self.members[:shards]):
            state = member.peer.machine.state
            state.myself.config_epoch = state.current_epoch = i + 1
            begin, end = SLOTS * i // shards, SLOTS * (i + 1) // shards
            state.move((1 << end) - (1 << begin), state.myself)
            member.peer.machine.save()
        first = self.members[0].peer
        for member in self.members[1:]:
            peer = member.peer
            peer.machine.meet(first.ip, first.port - BUS_DISTANCE, first.port, peer.now())
        self.run_until(25.0)
        for i, member in enumerate(self.members[shards:]):
            peer = member.peer
            master = peer.machine.state.find(self.members[i % shards].peer.name)
            assert master is not None
            peer.machine.replicate(master, peer.now())
            peer.settle()
        self.run_until(35.0)
        number = draw.choice([3, 3, 3, 5])
        self.quorum = draw.choice([2, number // 2 + 1])
        for i in range(number):
            sentinel = Sentinel(self, f"10.0.9.{i + 1}")  # type: ignore[arg-type]
            self.wires.hosts[sentinel.ip, sentinel.port] = sentinel
            self.sentinels.append(sentinel)
        for sentinel in self.sentinels:
            sentinel.start()
        self.run_until(50.0)
        reason = self.find_disagreement()
        if reason:
            raise Broken(f"at the beginning: {reason}")
        self.trace.note("world", f"{shards} masters, {replicas} replicas each, {number} sentinels")

    def run_until(self, when: float) -> None:
        """Let time pass."""
        timeline = self.timeline
        while timeline.next_time <= when:
            timeline.advance(timeline.next_time)
        timeline.advance(when)

    def count(self, what: str) -> None:
        """One more of these."""
        self.counts[what] = self.counts.get(what, 0) + 1

    def step(self) -> None:
        """Something has happened."""
        self.steps += 1
        if self.steps > LIMIT:
            raise Broken("more steps than there can be")

    def publish(self, member: Member, message: tuple[bytes, bytes]) -> None:
        """A message for all nodes that the bus reaches."""
        for other in self.members:
            if other is member:
                other.publish(message)
            elif other.alive and not self.bus.is_cut(member.peer, other.peer):
                delay = self.draw.expovariate(1 / self.bus.slowness)
                self.timeline.after(delay, partial(other.publish, message))

    # What must hold.

    def check(self, sentinel: Sentinel) -> None:
        """After each step of a sentinel."""
        self.step()
        machine = sentinel.machine
        if machine.deadline > machine.now + TICK:
            raise Broken(f"{sentinel.ip} does not want to be woken")

    def note_vote(self, sentinel: Sentinel, argv: list[bytes], reply: list[object]) -> None:
        """A sentinel answers another one: that is a vote if it names somebody."""
        leader, epoch = reply[1], reply[2]
        assert isinstance(leader, bytes)
        assert isinstance(epoch, int)
        for master in sentinel.machine.state.masters.values():
            address = master.address
            if (address.ip, address.port) == (argv[2].decode(), int(argv[3])):
                if leader != b"*" and (master.leader, master.leader_epoch) == (
                    leader.decode(),
                    epoch,
                ):
                    self._vote(sentinel, master, epoch, leader.decode())

    def _vote(self, sentinel: Sentinel, master: Master, epoch: int, leader: str) -> None:
        before = self.votes.setdefault((sentinel.my_id, master.node_id, epoch), leader)
        if before != leader:
            raise Broken(f"{sentinel.ip} votes twice for {master.name} in epoch {epoch}")

    def note_request(self, sentinel: Sentinel, request: Request) -> None:
        """A sentinel sends something: it may seek votes, or promote somebody."""
        words = [word.upper() for word in request.argv[:2]]
        if words == [b"CLUSTER", b"FAILOVER"]:
            replica = request.instance
            assert isinstance(replica, Replica)
            master = replica.master
            self.count("told to take over")
            if request.argv[-1].upper() == b"TAKEOVER":
                self._judge_takeover(sentinel, replica)
            if master.has(FORCE_FAILOVER):
                return  # an operator has asked for it, and nobody for votes
            key = (master.node_id, master.failover_epoch)
            before = self.chosen.setdefault(key, replica.node_id)
            if before != replica.node_id:
                raise Broken(f"two replicas are to replace {master.name} in epoch {key[1]}")
        elif words[0] == b"SENTINEL" and request.argv[5] != b"*":
            master = getattr(request.instance, "master", None)  # type: ignore[assignment]
            assert isinstance(master, Master)
            self._vote(sentinel, master, int(request.argv[4]), sentinel.my_id)

    def _judge_takeover(self, sentinel: Sentinel, replica: Replica) -> None:
        """Whether the replica would take what another master has, as far as the sentinel knows."""
        cluster = replica.master.cluster
        assert cluster is not None
        state = self._peer(replica.node_id).machine.state
        old = state.myself.master
        if old is None:
            return
        taken = slot_bits(old.slots)
        for node_id, view in cluster.views.items():
            own = view.own
            if node_id != old.name and own.is_master and own.epoch > old.config_epoch:
                if own.slots & taken:
                    raise Broken(f"{sentinel.ip} lets {replica.name} take slots of {node_id[:8]}")

    def note_event(
        self, sentinel: Sentinel, event: str, instance: Instance | None, text: str
    ) -> None:
        """A sentinel tells something."""
        self.trace.note(sentinel.ip, f"{event} {text}")
        self.count(event)
        if event == "+elected-leader" and isinstance(instance, Master):
            if not instance.has(FORCE_FAILOVER):
                key = (instance.node_id, instance.failover_epoch)
                if self.leaders.setdefault(key, sentinel.my_id) != sentinel.my_id:
                    raise Broken(f"two leaders for {instance.name} in epoch {key[1]}")

    # Faults.

    def _later(self, mean: float, action: object) -> None:
        assert callable(action)
        self.timeline.after(self.draw.expovariate(1 / mean), action)

    def _revive(self, host: Member | Sentinel) -> None:
        if not host.alive:
            self.trace.note(host.ip, "comes back")
            host.start()

    def _owners(self) -> list[Member]:
        return [m for m in self.members if m.alive and m.peer.machine.myself.slot_count]

    def _crash(self) -> str | None:
        member = self.draw.choice(self._owners() or self.members)
        if self.draw.random() < 0.3:
            member = self.draw.choice(self.members)
        if not member.alive:
            return None
        member.crash(power=self.draw.random() < 0.3)
        self._later(self.draw.choice([1.0, 10.0, 20.0]), lambda: self._revive(member))
        return str(member.port)

    def _crash_several(self) -> str | None:
        """Masters, and sometimes replicas, all at once."""
        fallen = [m for m in self._owners() if self.draw.random() < 0.7]
        for member in fallen:
            member.crash(power=False)
            self._later(15.0, partial(self._revive, member))
        return ", ".join(str(member.port) for member in fallen) or None

    def _crash_sentinel(self) -> str | None:
        sentinel = self.draw.choice(self.sentinels)
        if not sentinel.alive:
            return None
        sentinel.crash(power=self.draw.random() < 0.3)
        self._later(8.0, lambda: self._revive(sentinel))
        return sentinel.ip

    def _crash_at_save(self) -> str | None:
        sentinel = self.draw.choice(self.sentinels)
        if not sentinel.alive:
            return None
        sentinel.crash_at = self.draw.choice(["before", "after"])
        life = sentinel.life

        def revive() -> None:
            if not sentinel.alive and sentinel.life == life:
                self._revive(sentinel)
            elif sentinel.alive and sentinel.life == life and sentinel.crash_at:
                self._later(3.0, revive)

        self._later(3.0, revive)
        return f"{sentinel.ip} {sentinel.crash_at}"

    def _pause(self) -> str | None:
        sentinel = self.draw.choice(self.sentinels)
        if not sentinel.alive or sentinel.paused:
            return None
        sentinel.paused = True
        life = sentinel.life

        def go_on() -> None:
            if sentinel.life == life:
                sentinel.paused = False

        self._later(self.draw.choice([0.3, 1.5, 6.0]), go_on)
        return sentinel.ip

    def _cut(self) -> str | None:
        """A group of hosts cannot reach the others, nor be reached."""
        hosts: list[Host] = [*self.members, *self.sentinels]
        inside = set(self.draw.sample(hosts, self.draw.choice([1, 1, 2, len(hosts) // 2])))
        cut = {
            (one, other) for one in hosts for other in hosts if (one in inside) != (other in inside)
        }
        pairs = {
            frozenset((one.peer.port, other.peer.port))
            for one in self.members
            for other in self.members
            if (one in inside) != (other in inside)
        }
        self.wires.cut |= cut
        self.bus.cut |= pairs

        def heal() -> None:
            self.trace.note("world", "a cut heals")
            self.wires.cut -= cut
            self.bus.cut -= pairs

        self._later(self.draw.choice([1.0, 5.0, 12.0]), heal)
        return ", ".join(sorted(f"{host.ip}:{host.port}" for host in inside))

    def _cut_bus(self) -> str | None:
        """A node gossips with some others no more; its clients do not notice."""
        member = self.draw.choice(self.members)
        others = [other for other in self.members if other is not member]
        missed = self.draw.sample(others, self.draw.randrange(1, len(others) + 1))
        pairs = {frozenset((member.peer.port, other.peer.port)) for other in missed}
        self.bus.cut |= pairs

        def heal() -> None:
            self.bus.cut -= pairs

        self._later(self.draw.choice([1.0, 5.0]), heal)
        return f"{member.port} from {', '.join(str(other.port) for other in missed)}"

    def _reset(self) -> str | None:
        wires = [wire for wire in self.wires.wires if wire.far_there]
        if not wires:
            return None
        wire = self.draw.choice(wires)
        self.wires.reset(wire)
        return f"{wire.near.ip} to {wire.far.ip if wire.far is not None else ''}"

    # Operators.

    def _hand_over(self) -> str | None:
        """CLUSTER FAILOVER, past the sentinels."""
        member = self.draw.choice(self.members)
        machine = member.peer.machine
        if not member.alive or not machine.myself.is_replica or machine.myself.master is None:
            return None
        how = self.draw.choice(["", "", "FORCE", "TAKEOVER"])
        if how == "TAKEOVER":
            machine.now = member.peer.now()
            machine.handover.reset()
            machine.bump_epoch()
            machine.take_over()
            # As an operator has to know: it may take slots that were moved away meanwhile.
            self._forget_moves(member.peer.name)
        else:
            machine.handover.begin(member.peer.now(), force=how == "FORCE")
        member.peer.save()
        member.peer.settle()
        return f"{member.port} {how}".rstrip()

    def _forget_moves(self, name: str) -> None:
        taken = {s for s, o in enumerate(self._peer(name).machine.state.owners) if o is not None}
        for slot in list(self.moves):
            if slot in taken and self.moves[slot] != name:
                owner = self._peer(name).machine.state.owners[slot]
                if owner is not None and owner.name == name:
                    del self.moves[slot]

    def _peer(self, name: str) -> Peer:
        return next(m.peer for m in self.members if m.peer.name == name)

    def _force(self) -> str | None:
        """SENTINEL FAILOVER."""
        sentinel = self.draw.choice(self.sentinels)
        names = list(sentinel.machine.state.masters) if sentinel.alive else []
        if not names or sentinel.paused:
            return None
        name = self.draw.choice(names)
        try:
            sentinel.fail_over(name)
        except Refused as refused:
            return f"{sentinel.ip} {name}: {refused}"
        return f"{sentinel.ip} {name}"

    def _move_slot(self) -> str | None:
        """Move a slot as the operator's tool does: the target is told first."""
        slot = self.draw.randrange(SLOTS)
        living = [member.peer for member in self.members if member.alive]
        sources = [p for p in living if p.machine.state.owners[slot] is p.machine.myself]
        targets = [p for p in living if p.machine.myself.is_master and p.machine.myself.slot_count]
        if len(sources) != 1 or not targets:
            return None
        source, target = sources[0], self.draw.choice(targets)
        owner = target.machine.state.owners[slot]
        node = source.machine.state.find(target.name)
        if target is source or owner is None or owner.name != source.name or node is None:
            return None
        if not source.machine.state.up or not target.machine.state.up or not node.is_master:
            return None
        self.moves.pop(slot, None)
        self.pending[slot] = target.name
        self._give(target, slot)
        name, epoch = target.name, target.machine.myself.config_epoch
        self.timeline.after(0.5, lambda: self._acknowledge(slot, name, epoch, 20))
        if self.draw.random() < 0.9:
            source.machine.set_slot(slot, node, source.now())
            source.save()
            source.settle()
        return f"{slot} from {source.port} to {target.port}"

    def _surprise(self) -> str | None:
        """A slot moves from or to a master while its replica hears nothing; then it is lost."""
        replicas = [
            member
            for member in self.members
            if member.alive and member.peer.machine.myself.master is not None
        ]
        if not replicas:
            return None
        replica = self.draw.choice(replicas)
        old = replica.peer.machine.myself.master
        assert old is not None
        source = next((m for m in self._owners() if m.peer.name == old.name), None)
        targets = [member for member in self._owners() if member is not source]
        if source is None or not targets or not source.peer.machine.state.up:
            return None
        lost = source
        target = self.draw.choice(targets)
        if self.draw.random() < 0.5:
            source, target = target, source
        node = source.peer.machine.state.find(target.peer.name)
        slots = source.peer.machine.myself.slots
        slot = next((slot for slot in range(SLOTS) if slots[slot >> 3] >> (slot & 7) & 1), None)
        if node is None or slot is None or not node.is_master:
            return None
        pairs = {
            frozenset((replica.peer.port, other.peer.port))
            for other in self.members
            if other is not replica
        }
        self.bus.cut |= pairs

        def heal() -> None:
            self.bus.cut -= pairs

        self._later(4.0, heal)
        self.moves.pop(slot, None)
        self._give(target.peer, slot)
        source.peer.machine.set_slot(slot, node, source.peer.now())
        source.peer.save()
        source.peer.settle()
        self._later(0.5, partial(self._end, lost))
        return f"{replica.port}: {slot} from {source.port} to {target.port}"

    def _end(self, member: Member) -> None:
        if member.alive:
            member.crash(power=False)
            self._later(10.0, partial(self._revive, member))

    def _give(self, target: Peer, slot: int) -> None:
        state = target.machine.state
        state.importing[slot] = state.owners[slot] or state.myself
        target.machine.set_slot(slot, state.myself, target.now())
        target.save()
        target.settle()

    def _acknowledge(self, slot: int, name: str, epoch: int, tries: int) -> None:
        """Tell the operator that the move is done, if it is for all nodes."""
        if not tries or not all(member.alive for member in self.members):
            return
        for member in self.members:
            owner = member.peer.machine.state.owners[slot]
            if owner is None or owner.name != name or owner.config_epoch != epoch:
                self.timeline.after(0.5, lambda: self._acknowledge(slot, name, epoch, tries - 1))
                return
        self.moves[slot] = name
        self.pending.pop(slot, None)
        self.count("moves acknowledged")

    # Running.

    def run(self) -> None:
        """Build, let things fail, see that all agree in the end; then lose a majority."""
        self.build()
        draw = self.draw
        deeds: list[Deed] = [
            ("kill", 5.0, self._crash),
            ("kill several", 2.0, self._crash_several),
            ("kill sentinel", 2.0, self._crash_sentinel),
            ("crash at save", 1.0, self._crash_at_save),
            ("pause", 1.0, self._pause),
            ("cut", draw.choice([0.0, 3.0]), self._cut),
            ("cut bus", draw.choice([0.0, 5.0]), self._cut_bus),
            ("reset", 3.0, self._reset),
            ("hand over", draw.choice([0.0, 1.0]), self._hand_over),
            ("force", draw.choice([0.0, 1.0]), self._force),
            ("move", 12.0, self._move_slot),
            ("surprise", draw.choice([2.0, 8.0]), self._surprise),
        ]
        note = self.trace.note
        pause = draw.choice([1.0, 3.0, 8.0])
        schedule = Schedule(self.timeline, draw, deeds, pause, lambda what: note("world", what))
        self.run_until(self.timeline.now + TURBULENCE)
        schedule.stop()
        for name, count in schedule.counts.items():
            self.counts[name] = self.counts.get(name, 0) + count
        self._calm()
        self.counts["seconds to agree"] = self._await_agreement(self.members, CONVERGENCE)
        reason = self._find_lost_move()
        if reason:
            raise Broken(reason)
        self._lose_majority()
        self.counts["messages"] = self.wires.delivered

    def _calm(self) -> None:
        for _ in range(2):
            self.wires.cut.clear()
            self.bus.cut.clear()
            for member in self.members:
                self._revive(member)
            for sentinel in self.sentinels:
                sentinel.paused = False
                sentinel.crash_at = ""
                self._revive(sentinel)
            # What was planned during the turbulence is over by then, too.
            self.run_until(self.timeline.now + 15.0)
        self.trace.note("world", "nothing fails any more")

    def _await_agreement(self, expected: list[Member], limit: float) -> int:
        """Let time pass until all agree; the seconds that it took."""
        began = self.timeline.now
        reason = "it has not been looked"
        while self.timeline.now - began < limit:
            self.run_until(self.timeline.now + 1.0)
            reason = self.find_disagreement(expected)
            if not reason:
                return int(self.timeline.now - began)
            self._help()
        raise Broken(f"after {limit:.0f} s: {reason}")

    def _help(self) -> None:
        """An operator moves again what nobody claims since the move was interrupted."""
        claimed = 0
        for member in self.members:
            if member.alive:
                claimed |= slot_bits(member.peer.machine.myself.slots)
        for slot, name in self.pending.items():
            target = self._peer(name)
            if not claimed >> slot & 1 and target.alive and target.machine.myself.is_master:
                self._give(target, slot)

    def _lose_majority(self) -> None:
        """More than half of the masters go for good, as far as each has a replica that is ready."""
        self.run_until(self.timeline.now + 30.0)  # the replicas have all data
        owners = self._owners()
        served = {
            member.peer.machine.myself.master.name
            for member in self.members
            if member.alive and member.peer.machine.myself.master is not None
        }
        able = [member for member in owners if member.peer.name in served]
        fallen = able[: max(len(owners) // 2 + 1, 1)]
        self.trace.note("world", f"{', '.join(str(m.port) for m in fallen)} go for good")
        for member in fallen:
            member.crash(power=self.draw.random() < 0.5)
        left = [member for member in self.members if member.alive]
        self.counts["seconds without a majority"] = self._await_agreement(left, RECOVERY)

    def find_disagreement(self, expected: list[Member] | None = None) -> str:
        """Why it is not well yet; empty when it is. ``expected`` are the nodes that must work."""
        members = self.members if expected is None else expected
        names = {member.peer.name: member for member in members}
        reference: list[str] | None = None
        for member in members:
            state = member.peer.machine.state
            owners = ["" if owner is None else owner.name for owner in state.owners]
            if reference is None:
                reference = owners
            if owners != reference:
                slot = next(i for i in range(SLOTS) if owners[i] != reference[i])
                return f"{member.port} and {members[0].port} disagree on slot {slot}"
            if not state.up:
                return f"the cluster is down for {member.port}"
        assert reference is not None
        masters = {names[name].port for name in set(reference) if name in names}
        for name in set(reference):
            if name not in names:
                return f"{name[:8] or 'nobody'} has slots, and is not there"
            if not names[name].peer.machine.myself.is_master:
                return f"{names[name].port} has slots, and is no master"
        return self._find_disagreement_of_sentinels(members, masters)

    def _find_disagreement_of_sentinels(self, members: list[Member], masters: set[int]) -> str:
        reference: dict[str, tuple[int, int]] | None = None
        for sentinel in self.sentinels:
            machine = sentinel.machine
            state = machine.state
            if machine.tilt:
                return f"{sentinel.ip} is in TILT"
            view = {
                name: (master.current_address.port, master.config_epoch)
                for name, master in state.masters.items()
            }
            if {port for port, _ in view.values()} != masters:
                return f"{sentinel.ip} names {sorted(view.values())}, not {sorted(masters)}"
            if reference is None:
                reference = view
            if view != reference:
                return f"{sentinel.ip} says {view}, not {reference}"
            for master in state.masters.values():
                if master.has(FAILOVER_IN_PROGRESS):
                    return f"{sentinel.ip} fails {master.name} over"
                if len(master.peers) != len(self.sentinels) - 1:
                    return f"{sentinel.ip} does not know all others"
                for instance in master.instances():
                    there = any(m.port == instance.address.port for m in members)
                    if instance.has(S_DOWN) and (there or instance is master):
                        return f"{instance.name} is down for {sentinel.ip}"
            known = {i.address.port for m in state.masters.values() for i in m.instances()}
            for member in members:
                machine_of_member = member.peer.machine
                belongs = machine_of_member.myself.slot_count or not (
                    machine_of_member.myself.is_master
                )
                if belongs and member.port not in known:
                    return f"{sentinel.ip} does not know {member.port}"
        return ""

    def _find_lost_move(self) -> str:
        """A slot that is not where an operator was told that it is, nor with a successor."""
        owners = self.members[0].peer.machine.state.owners
        for slot, name in self.moves.items():
            heirs = {name}
            fresh = [name]
            while fresh:
                found = self.successors.get(fresh.pop(), set()) - heirs
                heirs |= found
                fresh += found
            owner = owners[slot]
            if owner is None or owner.name not in heirs:
                where = "nobody" if owner is None else owner.name[:8]
                return f"slot {slot} was moved to {name[:8]}, and {where} has it"
        return ""


def run_guarded(seed: int, echo: TextIO | None) -> tuple[Trace, dict[str, int]]:
    """One run. Raises Broken."""
    timeline = Timeline()
    trace = Trace(timeline, echo)
    world = GuardedWorld(seed, trace, timeline)
    world.run()
    return trace, world.counts
