"""Nodes in the format of CLUSTER NODES, which is also that of the cluster's file (nodes.conf).

A line is: name, ``ip:port@busport,hostname`` (in the file further fields), flags, master, when the
unanswered ping was sent, when the last pong came, config epoch, state of the link, slots. Ranges of
slots are ``first-last``; slots on their way are ``[slot->-node]`` and ``[slot-<-node]``, on this
node's line only.
"""

from __future__ import annotations

from cluster.slots import format_range
from cluster.state import Node, State, find_runs, slot_bits


def describe_address(node: Node, aux: bool) -> str:
    """The second field; with ``aux`` all that is known of the node's names and ports."""
    text = f"{node.ip}:{node.port}@{node.bus_port}"
    if node.hostname or aux:
        text += f",{node.hostname}"
    if aux:
        text += f",tls-port={node.tls_port}"
        if node.human_name:
            text += f",nodename={node.human_name}"
        text += f",shard-id={node.shard}"
    return text


def describe_node(state: State, node: Node, aux: bool = False) -> str:
    """One line, without its end."""
    master = node.master.name if node.master is not None else "-"
    ranges = node.slot_ranges
    if aux and state.unclaimed and node.slot_count:
        # Who reads the file cannot know that the owner claims them no more, so they have none.
        bits = slot_bits(node.slots)
        if bits & state.unclaimed:
            ranges = find_runs(bits & ~state.unclaimed)
    connected = node is state.myself or (node.link is not None and node.link.open)
    epoch = node.master.config_epoch if node.master is not None else node.config_epoch
    words = [
        node.name,
        describe_address(node, aux),
        node.describe_flags(),
        master,
        str(node.ping_sent),
        str(node.pong_received),
        str(epoch),
        "connected" if connected else "disconnected",
        *(format_range(first, last) for first, last in ranges),
    ]
    if node is state.myself:
        words += [f"[{slot}->-{to.name}]" for slot, to in sorted_slots(state.migrating)]
        words += [f"[{slot}-<-{source.name}]" for slot, source in sorted_slots(state.importing)]
    return " ".join(words)


def sorted_slots(table: dict[int, Node]) -> list[tuple[int, Node]]:
    """The slots on their way, in order."""
    return [(slot, table[slot]) for slot in sorted(table)]


def describe_nodes(state: State, aux: bool = False) -> str:
    """A line for each node that is known for certain; in the file only those that have a name."""
    return "".join(
        f"{describe_node(state, node, aux)}\n"
        for node in state.nodes.values()
        if not (aux and node.in_handshake)
    )
