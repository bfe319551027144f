"""The world of the cluster: many machines, operators, and everything that fails.

What must hold after each step:

- An epoch is won once, and a slot has one owner in an epoch that was won: no two masters ever claim
  the same slot with it. (Where a master takes an epoch without asking anybody, after an operator
  has moved a slot to it or because another one has the same, as in Redis, the same may be won
  elsewhere at that moment; then one of the two takes the next.)
- A master votes once in an epoch, whatever it goes through.
- What a machine knows is consistent in itself (:meth:`cluster.state.State.check`, now and then).

Once nothing fails any more, within a few minutes: all know each other and agree on who has which
slot; epochs are unique among masters; every slot is covered by a node that works, and the cluster
is up everywhere; and each slot whose move was acknowledged (all nodes that live know of it, which
is what the operator's tool waits for) is where it was moved to, or with whoever took that node's
place.
"""

from __future__ import annotations

import random
from typing import Final, TextIO

from cluster.slots import SLOTS
from cluster.state import MASTER, REPLICA, Node, slot_bits
from tests.simulation.bus import FIRST_BUS_PORT, Bus, SimulatedLink
from tests.simulation.peer import Peer
from tests.simulation.schedule import Deed, Schedule
from tests.simulation.timeline import Timeline
from tests.simulation.trace import Broken, Trace

TURBULENCE: Final = 45.0
CONVERGENCE: Final = 240.0
CHECK_EVERY: Final = 200
LIMIT: Final = 5_000_000


class ClusterWorld:
    """One run, from one seed."""

    def __init__(self, seed: int, trace: Trace, timeline: Timeline) -> None:
        self.seed = seed
        self.trace = trace
        self.timeline = timeline
        self.draw = random.Random(seed)
        self.bus = Bus(timeline, random.Random(seed + 1))
        self.bus.slowness = self.draw.choice([0.001, 0.01, 0.05])
        self.bus.duplication = self.draw.choice([0.0, 0.0, 0.02])
        self.disk_slowness = self.draw.choice([0.0005, 0.01, 0.1])
        self.peers: list[Peer] = []
        self.timeout = self.draw.choice([1000, 2000, 5000])
        # (voter, epoch) -> whom the vote was sent to.
        self.votes: dict[tuple[str, int], int] = {}
        self.winners: dict[int, str] = {}
        # epoch -> master -> all slots that it has claimed with it.
        self.claims: dict[int, dict[str, int]] = {}
        self.moves: dict[int, str] = {}  # slot -> the node that has it, as has been acknowledged
        self.pending: dict[int, str] = {}  # the same before that, or without it
        # Who has ever taken the place of a node.
        self.successors: dict[str, set[str]] = {}
        self.counts: dict[str, int] = {}
        self._steps = 0

    # Building.

    def build(self) -> None:
        """Start the nodes, which know each other already, and give them slots."""
        draw = self.draw
        # Mostly small: large ones find little more, and take long.
        shards, replicas = draw.choice([(3, 0), (3, 1), (3, 1), (3, 2), (4, 1), (5, 1), (6, 2)])
        for i in range(shards * (replicas + 1)):
            peer = Peer(self, FIRST_BUS_PORT + i)
            peer.settings.node_timeout = self.timeout
            peer.settings.replica_validity_factor = draw.choice([0, 10])
            self.peers.append(peer)
            self.bus.peers[peer.port] = peer
            peer.start()
        masters = self.peers[:shards]
        for i, peer in enumerate(masters):
            state = peer.machine.state
            state.myself.config_epoch = state.current_epoch = i + 1
            begin, end = SLOTS * i // shards, SLOTS * (i + 1) // shards
            state.move((1 << end) - (1 << begin), state.myself)
            peer.machine.save()
        first = self.peers[0]
        for peer in self.peers[1:]:
            peer.machine.meet(first.ip, first.port - 10_000, first.port, peer.now())
        self.run_until(25.0)
        for i, peer in enumerate(self.peers[shards:]):
            master = peer.machine.state.find(masters[i % shards].name)
            if master is None:
                raise Broken("a node has not come to know all others in 30 s")
            peer.machine.replicate(master, peer.now())
            peer.settle()
        self.run_until(40.0)
        self.trace.note("world", f"{shards} masters, {replicas} replicas each")

    # Looking.

    def find(self, name: str) -> Peer | None:
        """The peer of that name."""
        for peer in self.peers:
            if peer.name == name:
                return peer
        return None

    def living(self) -> list[Peer]:
        return [peer for peer in self.peers if peer.alive]

    # What must hold.

    def note_vote(self, peer: Peer, link: SimulatedLink) -> None:
        """A vote is on its way."""
        epoch = peer.machine.state.current_epoch
        candidate = link.node
        assert candidate is not None
        whom = candidate.bus_port
        key = (peer.name, epoch)
        if self.votes.setdefault(key, whom) != whom:
            raise Broken(f"{peer.port} votes for {whom} and {self.votes[key]} in epoch {epoch}")

    def note_promotion(self, peer: Peer, old: str) -> None:
        """A replica has taken its master's place."""
        self._count("promotions")
        epoch = peer.machine.myself.config_epoch
        if self.winners.setdefault(epoch, peer.name) != peer.name:
            raise Broken(f"{peer.port} wins epoch {epoch}, as {self.winners[epoch][:8]} has done")
        self.successors.setdefault(old, set()).add(peer.name)

    def check(self, peer: Peer) -> None:
        """What must hold after each step of a node."""
        self._steps += 1
        if self._steps > LIMIT:
            raise Broken("more steps than there can be")
        state = peer.machine.state
        myself = state.myself
        if self._steps % CHECK_EVERY == 0:
            state.check()
        if myself.is_master and myself.slot_count:
            if self.winners.get(myself.config_epoch) != myself.name:
                return
            bits = slot_bits(myself.slots)
            claims = self.claims.setdefault(myself.config_epoch, {})
            if claims.get(myself.name, 0) | bits != claims.get(myself.name, 0):
                for name, others in claims.items():
                    if name != myself.name and others & bits:
                        raise Broken(
                            f"{myself.name[:8]} and {name[:8]} both claim "
                            f"{(others & bits).bit_count()} slots in epoch {myself.config_epoch}"
                        )
                claims[myself.name] = claims.get(myself.name, 0) | bits

    # Faults.

    def _pick(self) -> Peer:
        return self.draw.choice(self.peers)

    def _crash(self) -> str | None:
        peer = self._pick()
        if not peer.alive:
            return None
        peer.crash(lose_disk=False)
        self.timeline.after(self.draw.expovariate(1 / 10), lambda: self._revive(peer))
        return f"{peer.port}"

    def _revive(self, peer: Peer) -> None:
        if not peer.alive:
            self.trace.note("world", f"{peer.port} comes back")
            peer.start()

    def _lose_disk(self) -> str | None:
        """Only a replica's, or a master's whose place another one has taken already."""
        peer = self._pick()
        if not peer.alive or peer.machine.myself.slot_count:
            return None
        name = peer.name
        for slot in [slot for slot, where in self.moves.items() if where == name]:
            del self.moves[slot]
        peer.crash(lose_disk=True)
        self.timeline.after(self.draw.expovariate(1 / 10), lambda: self._rejoin(peer))
        return f"{peer.port}"

    def _rejoin(self, peer: Peer) -> None:
        """A new node at the old address; an operator lets it in."""
        peer.start()
        self.trace.note("world", f"{peer.port} begins anew as {peer.name[:8]}")
        self._introduce(peer)

    def _introduce(self, peer: Peer) -> None:
        others = [other for other in self.living() if other is not peer]
        if others:
            other = self.draw.choice(others)
            other.machine.meet(peer.ip, peer.port - 10_000, peer.port, other.now())
            other.settle()

    def _partition(self) -> str | None:
        """Cut some nodes off from the others, for a while."""
        size = self.draw.randrange(1, len(self.peers))
        group = {peer.port for peer in self.draw.sample(self.peers, size)}
        pairs = {
            frozenset((one.port, other.port))
            for one in self.peers
            for other in self.peers
            if one.port in group and other.port not in group
        }
        self.bus.cut |= pairs
        self.timeline.after(self.draw.expovariate(1 / 12), lambda: self._heal(pairs))
        return " ".join(map(str, sorted(group)))

    def _cut_pair(self) -> str | None:
        one, other = self.draw.sample(self.peers, 2)
        pairs = {frozenset((one.port, other.port))}
        self.bus.cut |= pairs
        self.timeline.after(self.draw.expovariate(1 / 8), lambda: self._heal(pairs))
        return f"{one.port} {other.port}"

    def _heal(self, pairs: set[frozenset[int]]) -> None:
        self.bus.cut -= pairs

    def _reset(self) -> str | None:
        peer = self._pick()
        links = sorted(peer.links, key=lambda link: (link.created, link.inbound))
        if not links:
            return None
        self.bus.reset(self.draw.choice(links))
        return f"a link of {peer.port}"

    def _jump(self) -> str | None:
        """A node's time stands still or leaps; its clock is monotonic, so it never goes back."""
        peer = self._pick()
        leap = self.draw.uniform(0, 2 * self.timeout)
        peer.skew += leap
        return f"{peer.port} by {leap:.0f} ms"

    # Operators.

    def _fail_over(self) -> str | None:
        peer = self._pick()
        if not peer.alive or not peer.machine.myself.is_replica:
            return None
        master = peer.machine.myself.master
        if master is None:
            return None
        force = self.draw.random() < 0.3
        peer.machine.handover.begin(peer.now(), force=force)
        peer.settle()
        return f"{peer.port}{' by force' if force else ''}"

    def _move_slot(self) -> str | None:
        """Move a slot as the operator's tool does: the target is told first."""
        slot = self.draw.randrange(SLOTS)
        living = self.living()
        sources = [
            peer for peer in living if peer.machine.state.owners[slot] is peer.machine.myself
        ]
        targets = [
            peer
            for peer in living
            if peer.machine.myself.is_master
            and peer.machine.myself.slot_count
            and peer.machine.state.up
        ]
        if len(sources) != 1 or not targets:
            return None
        source = sources[0]
        target = self.draw.choice(targets)
        owner = target.machine.state.owners[slot]
        if target is source or owner is None or owner.name != source.name:
            return None
        if source.machine.state.find(target.name) is None or not source.machine.state.up:
            return None
        self.moves.pop(slot, None)
        self.pending[slot] = target.name
        self._take(target, slot)
        name, epoch = target.name, target.machine.myself.config_epoch
        self.timeline.after(0.5, lambda: self._acknowledge(slot, name, epoch, 20))
        node = source.machine.state.find(target.name)
        if node is not None and node.is_master and self.draw.random() < 0.9:
            source.machine.set_slot(slot, node, source.now())
            source.save()
            source.settle()
        return f"{slot} from {source.port} to {target.port}"

    def _acknowledge(self, slot: int, name: str, epoch: int, tries: int) -> None:
        """Tell the operator that the move is done, if it is for all nodes."""
        living = self.living()
        if 2 * len(living) <= len(self.peers) or not tries:
            return
        for peer in living:
            owner = peer.machine.state.owners[slot]
            if owner is None or owner.name != name or owner.config_epoch != epoch:
                self.timeline.after(0.5, lambda: self._acknowledge(slot, name, epoch, tries - 1))
                return
        self.moves[slot] = name
        self.pending.pop(slot, None)
        self._count("moves acknowledged")

    def _count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    # Running.

    def run_until(self, when: float) -> None:
        """Let time pass."""
        timeline = self.timeline
        while timeline.next_time <= when:
            timeline.advance(timeline.next_time)
        timeline.advance(when)

    def run(self) -> None:
        """Build, disturb, let it settle, and look."""
        self.build()
        deeds: list[Deed] = [
            ("crash", 3, self._crash),
            ("disk lost", 0.6, self._lose_disk),
            ("partition", self.draw.choice([0, 2]), self._partition),
            ("cut", 2, self._cut_pair),
            ("reset", 3, self._reset),
            ("leap", self.draw.choice([0, 1]), self._jump),
            ("failover", 2, self._fail_over),
            ("move", 6, self._move_slot),
        ]
        pause = self.draw.choice([0.5, 2.0, 6.0])
        schedule = Schedule(
            self.timeline, self.draw, deeds, pause, lambda told: self.trace.note("world", told)
        )
        self.run_until(40.0 + TURBULENCE)
        schedule.stop()
        for name, count in schedule.counts.items():
            self.counts[name] = self.counts.get(name, 0) + count
        self.bus.cut.clear()
        self.run_until(self.timeline.now + 20.0)
        for peer in self.peers:
            self._revive(peer)
            self.bus.cut.clear()
        began = self.timeline.now
        self.trace.note("world", "nothing fails any more")
        reason = "it has not been looked"
        while self.timeline.now - began < CONVERGENCE:
            self.run_until(self.timeline.now + 5.0)
            reason = self.find_disagreement()
            if not reason:
                break
            self._help()
        if reason:
            raise Broken(f"after {CONVERGENCE:.0f} s: {reason}")
        self.counts["packets"] = self.bus.delivered
        self.counts["seconds to agree"] = int(self.timeline.now - began)

    def _help(self) -> None:
        """What an operator does about what the nodes cannot settle by themselves.

        Nodes that have lost their disks are introduced again if whoever knew them has gone, and a
        slot that nobody claims since its move was interrupted is moved again.
        """
        for peer in self.peers:
            if any(peer.name not in other.machine.state.nodes for other in self.peers):
                self._introduce(peer)
        claimed = 0
        for peer in self.peers:
            claimed |= slot_bits(peer.machine.myself.slots)
        for slot, name in self.pending.items():
            target = self.find(name)
            if not claimed & 1 << slot and target is not None and target.machine.myself.is_master:
                self._take(target, slot)

    def _take(self, target: Peer, slot: int) -> None:
        """Tell a node that a slot is its own from now on."""
        state = target.machine.state
        state.importing[slot] = state.owners[slot] or state.myself
        target.machine.set_slot(slot, state.myself, target.now())
        target.save()  # before the operator is answered
        target.settle()

    def find_disagreement(self) -> str:
        """Why the nodes do not agree yet; empty when they do."""
        views: dict[str, int] = {}
        names = {peer.name for peer in self.peers}
        for peer in self.peers:
            state = peer.machine.state
            state.check()
            known = {node.name for node in state.nodes.values() if not node.in_handshake}
            if not names <= known:
                return f"{peer.port} does not know {len(names - known)} nodes"
            if not state.up:
                return f"the cluster is down for {peer.port}"
            for node in state.nodes.values():
                if node.name in names and node.flags & 0b1100:
                    return f"{peer.port} thinks that {node.name[:8]} fails"
            for slot, owner in enumerate(state.owners):
                if owner is None:
                    return f"{peer.port} knows no owner of slot {slot}"
        reference = [_name(owner) for owner in self.peers[0].machine.state.owners]
        for peer in self.peers:
            owners = [_name(owner) for owner in peer.machine.state.owners]
            if owners != reference:
                slot = next(i for i in range(SLOTS) if owners[i] != reference[i])
                return f"{peer.port} and {self.peers[0].port} disagree on slot {slot}"
            views[peer.name] = 1
        epochs: dict[int, str] = {}
        for name in set(reference):
            peer_of_name = self.find(name)
            if peer_of_name is None:
                return f"{name[:8]}, which is no more, has slots"
            myself = peer_of_name.machine.myself
            if not myself.flags & MASTER or myself.flags & REPLICA:
                return f"{peer_of_name.port}, which is no master, has slots"
            if epochs.setdefault(myself.config_epoch, name) != name:
                return f"two masters have epoch {myself.config_epoch}"
        return self._find_lost_move(reference)

    def _find_lost_move(self, owners: list[str]) -> str:
        """A slot that is not where an operator was told that it is, nor with a successor."""
        for slot, name in self.moves.items():
            heirs = {name}
            fresh = [name]
            while fresh:
                found = self.successors.get(fresh.pop(), set()) - heirs
                heirs |= found
                fresh += found
            if owners[slot] not in heirs:
                return f"slot {slot} was moved to {name[:8]}, and {owners[slot][:8]} has it"
        return ""


def _name(owner: Node | None) -> str:
    return "" if owner is None else owner.name


def run_cluster(seed: int, echo: TextIO | None) -> tuple[Trace, dict[str, int]]:
    """One run. Raises Broken."""
    timeline = Timeline()
    trace = Trace(timeline, echo)
    world = ClusterWorld(seed, trace, timeline)
    world.run()
    return trace, world.counts
