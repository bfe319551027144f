"""What a sentinel says of the clusters that it guards (SENTINEL CLUSTERS, SENTINEL CLUSTER)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from cluster.tool.connection import Address, ErrorReply, Reply
from cluster.tool.diagnosis import Finding
from cluster.tool.errors import Refused
from cluster.tool.fleet import Fleet
from cluster.tool.picture import Picture

SENTINEL: Final = "sentinel"
"""The kind of the findings about sentinels; `fix` has nothing to do with them."""
DOWN_FLAGS: Final = ("o_down", "s_down")


@dataclass(frozen=True, slots=True)
class GuardedNode:
    """A node as a sentinel has it; ``flags`` are those of SENTINEL MASTERS."""

    id: str
    address: Address
    flags: frozenset[str]

    @property
    def state(self) -> str:
        """One word: how the node is to the sentinel."""
        found = [flag for flag in DOWN_FLAGS if flag in self.flags]
        return found[0] if found else "disconnected" if "disconnected" in self.flags else "ok"


@dataclass(frozen=True, slots=True)
class GuardedShard:
    """One shard."""

    name: str
    master: GuardedNode
    replicas: tuple[GuardedNode, ...]
    slots: int
    epoch: int
    others: int  # sentinels besides this one

    @property
    def failing_over(self) -> bool:
        """Whether the sentinel is replacing the master."""
        return "failover_in_progress" in self.master.flags


@dataclass(frozen=True, slots=True)
class Guarded:
    """One cluster, and the sentinel that says so."""

    sentinel: Address
    name: str
    quorum: int
    shards: tuple[GuardedShard, ...]

    @property
    def others(self) -> int:
        """How many other sentinels it knows, at least."""
        return min((shard.others for shard in self.shards), default=0)

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "sentinel": str(self.sentinel),
            "name": self.name,
            "quorum": self.quorum,
            "other_sentinels": self.others,
            "shards": [
                {
                    "name": shard.name,
                    "master": _node_json(shard.master),
                    "replicas": [_node_json(replica) for replica in shard.replicas],
                    "slots_count": shard.slots,
                    "epoch": shard.epoch,
                }
                for shard in self.shards
            ],
        }


def _node_json(node: GuardedNode) -> dict[str, Any]:
    fields = asdict(node)
    fields["address"] = str(node.address)
    fields["flags"] = sorted(node.flags)
    return fields


def parse_fields(reply: Reply) -> dict[str, Any]:
    """A flat list of names and values; names as text. ValueError: it is none."""
    if not isinstance(reply, list) or len(reply) % 2:
        raise ValueError("not a list of fields")
    return {_text(name): value for name, value in zip(reply[::2], reply[1::2], strict=True)}


def parse_cluster(sentinel: Address, reply: Reply) -> Guarded:
    """The reply to SENTINEL CLUSTER. Raises ValueError, KeyError."""
    fields = parse_fields(reply)
    return Guarded(
        sentinel=sentinel,
        name=_text(fields["name"]),
        quorum=int(fields["quorum"]),
        shards=tuple(_parse_shard(parse_fields(shard)) for shard in fields["shards"]),
    )


def _parse_shard(fields: dict[str, Any]) -> GuardedShard:
    return GuardedShard(
        name=_text(fields["name"]),
        master=_parse_node(parse_fields(fields["master"])),
        replicas=tuple(_parse_node(parse_fields(replica)) for replica in fields["replicas"]),
        slots=int(fields["slots-count"]),
        epoch=int(fields["config-epoch"]),
        others=int(fields["num-other-sentinels"]),
    )


def _parse_node(fields: dict[str, Any]) -> GuardedNode:
    return GuardedNode(
        id=_text(fields["id"]),
        address=Address(_text(fields["ip"]), int(fields["port"])),
        flags=frozenset(_text(fields["flags"]).split(",")),
    )


def _text(value: Reply) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


async def ask_sentinel(fleet: Fleet, sentinel: Address) -> list[Guarded]:
    """All clusters that a sentinel guards. Raises Unreachable, Refused (it is no such sentinel)."""
    try:
        clusters = [parse_fields(row) for row in await fleet.call(sentinel, "SENTINEL", "CLUSTERS")]
        names = [_text(fields["name"]) for fields in clusters]
        replies = await fleet.pipeline(sentinel, [["SENTINEL", "CLUSTER", name] for name in names])
        return [parse_cluster(sentinel, reply) for reply in replies]
    except ErrorReply as error:
        raise Refused(f"{sentinel} is not a sentinel that guards clusters: {error}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise Refused(f"{sentinel}: not the answer of a sentinel ({error})") from None


async def ask_about(fleet: Fleet, sentinel: Address, picture: Picture) -> Guarded:
    """What a sentinel says of the cluster in the picture. Raises Unreachable, Refused."""
    ids = picture.members.keys() | picture.absent.keys()
    for guarded in await ask_sentinel(fleet, sentinel):
        nodes = [node for shard in guarded.shards for node in (shard.master, *shard.replicas)]
        if any(node.id in ids for node in nodes):
            return guarded
    raise Refused(f"The sentinel {sentinel} does not guard this cluster")


def list_shards(guarded: Guarded) -> tuple[list[str], list[list[object]]]:
    """Columns and rows of a table of what a sentinel says."""
    rows: list[list[object]] = []
    for shard in guarded.shards:
        for node in (shard.master, *shard.replicas):
            is_master = node is shard.master
            state = "failover" if is_master and shard.failing_over else node.state
            rows.append(
                [
                    shard.name if is_master else "",
                    node.address if is_master else f"  {node.address}",
                    shard.slots if is_master else "",
                    shard.epoch if is_master else "",
                    state,
                    node.id,
                ]
            )
    return ["shard", "node", "slots#", "epoch#", "state", "id"], rows


def diagnose_sentinel(guarded: Guarded, picture: Picture) -> list[Finding]:
    """What a sentinel says and the nodes do not, or the other way round. All are warnings."""
    found: list[Finding] = []
    place = f"The sentinel {guarded.sentinel}"

    def tell(text: str, ids: Iterable[str] = ()) -> None:
        found.append(Finding(SENTINEL, f"{place} {text}", (), tuple(ids), warning=True))

    named = {shard.master.id for shard in guarded.shards}
    for shard in guarded.shards:
        node = shard.master
        member = picture.members.get(node.id)
        if member is not None and not (member.is_master and member.me.slots):
            tell(f"takes {member.name} for the master of {shard.name}", [node.id])
        elif member is not None and member.me.address.port != node.address.port:
            tell(f"knows {member.name} at {node.address}", [node.id])
        found_down = _list_down((node, *shard.replicas))
        if found_down:
            tell(f"misses {found_down} of {shard.name}", [n.id for n in (node, *shard.replicas)])
    for master in picture.masters():
        if master.me.slots and master.id not in named:
            tell(f"does not guard {master.name}", [master.id])
    if guarded.shards and guarded.others + 1 < guarded.quorum:
        tell(f"knows {guarded.others} others, too few for a quorum of {guarded.quorum}")
    return found


def _list_down(nodes: Sequence[GuardedNode]) -> str:
    return ", ".join(str(node.address) for node in nodes if node.state != "ok")
