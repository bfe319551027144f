"""A sentinel's machine that guards a cluster on a stage, where nodes say what the test says."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from node.resp import Error, Reply
from sentinel.guarded import GuardedCluster
from sentinel.machine import Half, Machine, Request, Settings
from sentinel.state import Address, Link, Master, State
from tests.unit.sentinel.clusters import Told, node_id
from tests.unit.sentinel.stage import IP, ME, START, Stage, master_info, replica_info, run_id

NO_SUBCOMMAND = Error(b"ERR unknown subcommand 'myshardid'. Try CLUSTER HELP.")


class ClusterStage(Stage):
    """Guards ``shop``, entered by the first node. Nodes are named by letters, as in `Told`.

    All nodes see what ``told`` says, unless :meth:`say` has given some of them another view.
    """

    def __init__(
        self,
        told: Sequence[Told],
        *,
        entry: str = "a",
        shard_ids: dict[str, str] | None = None,
        peers: int = 2,
        state: State | None = None,
        up: str = "",
    ) -> None:
        self.now = START
        self.shard_ids = shard_ids or {}
        self.views: dict[str, list[Told]] = {}
        self.ports: dict[int, str] = {}
        self.obedient = True  # whether replicas take over when they are told to
        self.up = set()
        self.infos = {}
        self.pongs = {}
        self.silent = set()
        self.events = []
        self.logged = []
        self.scripts = []
        self.sent = []
        self.hellos = []
        self.count = {}
        self.asked = []
        self.opened = []
        self.closed = []
        self.names = {}
        self.crashed = False
        self.echo = True
        self._due = []
        self._answers = []
        self._echoes = []
        self.say(told, "".join(t.letter for t in told))
        for t in told:
            self.ports[t.port] = t.letter
            if not up or t.letter in up:
                self.up.add(t.port)
        if state is None:
            state = State(ME)
            state.port = 26379
            self.machine = Machine(state, Settings(), self, Random(1))
            address = Address(IP, self.port(entry))
            self.machine.monitor_cluster("shop", address, 2, self.now)
            options = self.cluster.options
            options.down_after, options.failover_timeout = 1000, 20_000
        else:
            self.machine = Machine(state, Settings(), self, Random(1))
            self.machine.begin(self.now)
        self.run(300)
        for i in range(peers):
            for master in self.masters.values():
                self.meet_shard(2000 + i, master)
        self.run(3000)
        self.events.clear()
        self.sent.clear()

    # Nodes.

    def say(self, told: Sequence[Told], letters: str) -> None:
        """These nodes see the cluster like that from now on."""
        for letter in letters:
            self.views[letter] = list(told)
            myself = next(t for t in told if t.letter == letter)
            port = myself.port
            self.ports[port] = letter
            if myself.master:
                above = next(t.port for t in told if t.letter == myself.master)
                self.infos[port] = replica_info(port, above)
            else:
                self.infos[port] = master_info(port)

    def port(self, letter: str) -> int:
        return next(t.port for t in self.views[letter] if t.letter == letter)

    def take_over(self, letter: str) -> None:
        """What CLUSTER FAILOVER TAKEOVER does, and the node's gossip afterwards."""
        seen = self.views[letter]
        me = next(t for t in seen if t.letter == letter)
        old = next(t for t in seen if t.letter == me.master)
        epoch = max(t.epoch for t in seen) + 1
        after = []
        for t in seen:
            if t is me:
                after.append(Told(letter, epoch, old.slots, port=me.port, host=me.host))
            elif t is old:
                flags = "fail" if old.port not in self.up else ""
                after.append(Told(t.letter, t.epoch, "", port=t.port, host=t.host, flags=flags))
            else:
                after.append(t)
        self.say(after, letter)

    def spread(self, letter: str) -> None:
        """All others come to see it as this node does."""
        self.say(self.views[letter], "".join(self.views))

    # Sentinels.

    def meet_shard(
        self, peer: int, master: Master, name: str = "", port: int = 0, epoch: int = 0
    ) -> None:
        """Another sentinel says hello for a shard, as this one would, or otherwise."""
        self.up.add(peer)
        text = (
            f"{IP},{peer},{run_id(peer)},0,{name or master.name},"
            f"{IP},{port or master.current_address.port},{epoch or master.config_epoch}"
        )
        self.machine.hear_published(text.encode(), self.now)
        self._settle()

    # The machine.

    @property
    def cluster(self) -> GuardedCluster:
        return self.machine.state.clusters["shop"]

    @property
    def masters(self) -> dict[str, Master]:
        """By the letters of the masters."""
        return {
            self.ports[master.current_address.port]: master
            for master in self.machine.state.masters.values()
        }

    def kill(self, *ports: int) -> None:
        instances = [
            instance
            for master in self.machine.state.masters.values()
            for instance in master.instances()
        ]
        for port in ports:
            self.up.discard(port)
            for instance in instances:
                link = instance.link
                if link.address.port == port:
                    halves: list[Half] = ["commands", "messages"] if link.listens else ["commands"]
                    for half in halves:
                        self.machine.lost(link, half, "reset", self.now)
        self._settle()

    def lead(self, letter: str) -> None:
        """Let a master die, and this sentinel be elected to replace it."""
        self.kill(self.port(letter))
        self.run(1001)
        self.agree()
        while "+try-failover" not in self.names_of_events():
            self.run(10)
        self.agree(self.machine.state.current_epoch)

    # Outside.

    def send(self, link: Link, request: Request) -> None:
        words = [word.decode() for word in request.argv]
        if words[0] != "CLUSTER":
            super().send(link, request)
            return
        port = link.address.port
        letter = self.ports[port]
        reply: Reply = b"OK"
        self.sent.append((port, " ".join(words)))
        if words[1] == "NODES":
            seen = self.views[letter]
            reply = "".join(f"{t.line(t.letter == letter)}\n" for t in seen).encode()
        elif words[1] == "MYSHARDID":
            found = self.shard_ids.get(letter, "")
            reply = found.encode() if found else NO_SUBCOMMAND
        elif words[1] == "FAILOVER" and self.obedient and words[2:] == ["TAKEOVER"]:
            self.take_over(letter)
        if port not in self.silent:
            self._answers.append((link, request, reply))

    def count_sent(self, letter: str, text: str) -> int:
        """How often something was sent to a node."""
        return self.sent.count((self.port(letter), text))


def shard_name(letter: str) -> str:
    """The name of a shard whose smallest node id is that one."""
    return f"shop/{node_id(letter)[:12]}"
