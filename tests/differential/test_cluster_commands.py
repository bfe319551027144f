"""What a node of a cluster answers, step by step, beside a real one in the same situation.

Each scenario is a script of steps that are sent to a small cluster of ours and to one of real
nodes (`cluster_scripts`). A step is `NAME command...`: to which node (`a` or `b`), or to which
further connection of it (`a2`), and what; or one of `up`, `agree` and `seen NAME`, which wait.
`{a}` and `{b}` stand for the nodes' names, `{x}` for a name that nobody has, `{aport}` for a port;
the same placeholders are put into the replies.
"""

from __future__ import annotations

import re
import shlex
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pytest

from tests.conftest import require_oracle
from tests.differential.cluster_scripts import ALONE, ASKING, MIGRATION, REPLICA
from tests.formations import OURS, REAL, Cluster, ClusterNode
from tests.wire import Client, Map, Reply, Verbatim, render

NOBODY: Final = "f" * 40
# Texts that are other ones in 7.2 than in the 7.0 that is compared with: theirs, ours.
REWORDED: Final = {
    ("-ERR Invalid TCP base port specified: x", "-ERR Invalid base port specified: x"),
    ("-ERR Invalid TCP bus port specified: x", "-ERR Invalid bus port specified: x"),
}


class Stage:
    """A cluster, and the connections that a scenario opens to it."""

    def __init__(
        self, kind: str, nodes: int, masters: int, replicas: dict[int, int], protocol: int
    ) -> None:
        self.protocol = protocol
        self.cluster = Cluster([kind] * nodes, require_oracle())
        self.names: dict[str, str] = {}
        self._connections: dict[str, Client] = {}
        try:
            if masters:
                self.cluster.form(masters, replicas)
            self.learn_names()
        except BaseException:
            self.cluster.stop()
            raise

    def learn_names(self) -> None:
        """The nodes' names; RESET HARD changes them."""
        self.names = {
            letter: node.id for letter, node in zip("abc", self.cluster.nodes, strict=False)
        }

    def node(self, who: str) -> ClusterNode:
        return self.cluster[ord(who[0]) - ord("a")]

    def connection(self, who: str) -> Client:
        if who not in self._connections:
            self._connections[who] = self.node(who).connect(self.protocol)
        return self._connections[who]

    def run(self, step: str) -> str:
        """Run one step; the reply, with placeholders."""
        who, *words = shlex.split(step)
        nodes = self.cluster.nodes
        if who == "agree":
            self.cluster.await_agreement()
        elif who == "up":
            self.cluster.wait(lambda: all(node.is_up for node in nodes), "the cluster's being up")
        elif who == "seen":
            name = self.names[words[0]]
            self.cluster.wait(
                lambda: all(name in render(node.do("CLUSTER", "SLOTS")) for node in nodes),
                "everybody's seeing the replica",
            )
        else:
            client = self.connection(who)
            client.send(*map(self._fill, words))
            reply = self.hide(client.read())
            if words[-1] == "HARD":
                self.learn_names()
            return reply
        return ""

    def _fill(self, word: str) -> bytes:
        for letter, name in self.names.items():
            word = word.replace(f"{{{letter}}}", name)
        word = word.replace("{x}", NOBODY)
        for letter, node in zip("abc", self.cluster.nodes, strict=False):
            word = word.replace(f"{{{letter}port}}", str(node.port))
            word = word.replace(f"{{{letter}bus}}", str(node.bus_port))
        return word.encode("latin-1").decode("unicode_escape").encode("latin-1")

    def hide(self, reply: Reply) -> str:
        """A reply as text in which names and ports are placeholders, and what depends on time or
        on the order in which a node knows the others is left out.
        """
        match reply:
            case bytes() if b"connected" in reply:
                text = "\n".join(sorted(map(self._hide_names, reply.decode().splitlines())))
            case Verbatim(form, lines) if b"connected" in lines:
                text = f"={form!r}" + self.hide(lines)
            case list() if reply and isinstance(reply[0], Map | list):
                text = "\n".join(sorted(self._hide_names(render(item)) for item in reply))
            case _:
                text = self._hide_names(render(reply))
        return text

    def _hide_names(self, text: str) -> str:
        for letter, name in self.names.items():
            text = text.replace(name, f"{{{letter}}}")
        text = re.sub("[0-9a-f]{40}", "{other}", text)
        for letter, node in zip("abc", self.cluster.nodes, strict=False):
            text = text.replace(str(node.port), f"{{{letter}port}}")
            text = text.replace(str(node.bus_port), f"{{{letter}bus}}")
        text = re.sub(r"(slave|master|handshake) (\S+) \d+ \d+ ", r"\1 \2 ", text)
        text = re.sub(r"'replication-offset'(,|:) \d+", "'replication-offset'", text)
        return re.sub("'health'(,|:) '(online|loading)'", "'health'", text)

    def close(self) -> None:
        for client in self._connections.values():
            client.close()
        self.cluster.stop()


@pytest.mark.parametrize(
    ("script", "nodes", "masters", "replicas", "protocol"),
    [
        pytest.param(ALONE, 1, 0, {}, 2, id="alone-resp2"),
        pytest.param(ALONE, 1, 0, {}, 3, id="alone-resp3"),
        pytest.param(MIGRATION, 2, 2, {}, 2, id="migration"),
        pytest.param(ASKING, 2, 2, {}, 2, id="asking"),
        pytest.param(REPLICA, 3, 2, {2: 0}, 3, id="replica"),
    ],
)
def test_same_replies(
    script: str, nodes: int, masters: int, replicas: dict[int, int], protocol: int
) -> None:
    require_oracle()
    stages: list[Stage] = []
    transcript: list[str] = []
    try:
        with ThreadPoolExecutor(2) as pool:
            started = [
                pool.submit(Stage, kind, nodes, masters, replicas, protocol)
                for kind in (OURS, REAL)
            ]
        stages = [future.result() for future in started if future.exception() is None]
        for future in started:
            future.result()
        differences = 0
        for step in script.splitlines():
            ours, theirs = (stage.run(step) for stage in stages)
            if ours == theirs or (theirs, ours) in REWORDED:
                transcript.append(f"> {step}\n  {ours}")
            else:
                differences += 1
                transcript.append(f"> {step}\n  {ours}\n  {theirs}   <--- (the real one)")
        assert not differences, "\n".join(transcript)
    finally:
        for stage in stages:
            stage.close()
