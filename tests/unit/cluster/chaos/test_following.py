"""The client that follows the cluster, and the look at whether it is whole."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

import pytest

from cluster.chaos.follower import Denied, Follower, Unanswered, choose_owner, find_tag
from cluster.chaos.lookout import Lookout, find_disagreement, find_trouble, locate
from cluster.chaos.schedule import MASTER, REPLICA, SENTINEL, Place, Topology
from cluster.slots import key_slot
from cluster.tool.connection import Address, Connection, Credentials, ErrorReply, Reply, Word
from cluster.tool.errors import Failed, Unreachable
from cluster.tool.fleet import Fleet
from cluster.tool.picture import Member, Picture
from cluster.tool.sentinels import Guarded, GuardedNode, GuardedShard
from node.network import SystemNetwork
from tests.unit.cluster.tool.drawn import Node, member, node_id, picture

HALF = range(8192)
REST = range(8192, 16384)
SIZE = Topology(2, 1, 1)


def address(number: int) -> Address:
    return Address("127.0.0.1", 7000 + number)


class Script(Connection):
    """Answers with what is in the script; an exception is raised."""

    def __init__(self, where: Address, fleet: ScriptedFleet) -> None:
        super().__init__(SystemNetwork(), where, Credentials(), 1.0)
        self._fleet = fleet

    async def connect(self) -> None:
        if self.address in self._fleet.closed:
            raise Unreachable("refused")

    async def pipeline(
        self, requests: Iterable[Sequence[Word]], patience: float = 0.0
    ) -> list[Reply]:
        queue = list(requests)
        self._fleet.asked.append((self.address, queue))
        reply = self._fleet.script.pop(0)
        if isinstance(reply, Unreachable):
            raise reply
        return [reply if words[0] == "GET" else b"OK" for words in queue]


class ScriptedFleet(Fleet):
    """Connections that answer what they are told to."""

    def __init__(self, *script: Reply) -> None:
        super().__init__(SystemNetwork(), address(1), Credentials(), 1.0)
        self.script = list(script)
        self.asked: list[tuple[Address, list[Sequence[Word]]]] = []
        self.closed: set[Address] = set()

    @asynccontextmanager
    async def connected(self, address: Address) -> AsyncIterator[Connection]:
        yield Script(address, self)


MASTERS = picture(Node(1, HALF, epoch=1), Node(2, REST, epoch=2), Node(3, master=1))


def test_tags() -> None:
    assert key_slot(find_tag(range(7, 9)).encode()) in (7, 8)


def test_the_owner_is_the_one_of_the_greatest_epoch() -> None:
    old, new = Node(1, HALF, epoch=1), Node(3, HALF, epoch=5)
    views = [member(old, [old]).view, member(new, [new]).view]
    assert choose_owner(views, 5) == (5, address(3))
    assert choose_owner(reversed(views), 5) == (5, address(3))
    assert choose_owner(views, 9000) is None


async def test_redirections() -> None:
    slot = key_slot(find_tag(HALF).encode())
    fleet = ScriptedFleet(
        ErrorReply(f"MOVED {slot} 127.0.0.1:7002"),
        ErrorReply(f"ASK {slot} 127.0.0.1:7003"),
        b"value",
        b"again",
    )
    follower = Follower(fleet, MASTERS, 1.0)
    assert await follower.call(0, [["GET", "a"], ["WAIT", 1, 1]]) == [b"value", b"OK"]
    assert [where for where, _ in fleet.asked] == [address(1), address(2), address(3)]
    assert fleet.asked[2][1][0] == ["ASKING"]
    # What moved is kept, where to ask is not.
    assert await follower.call(0, [["GET", "a"]]) == [b"again"]
    assert fleet.asked[3] == (address(2), [["GET", "a"]])


async def test_what_was_not_done_and_what_may_have_been() -> None:
    fleet = ScriptedFleet(ErrorReply("CLUSTERDOWN The cluster is down"), Unreachable("gone"))
    follower = Follower(fleet, MASTERS, 1.0)
    with pytest.raises(Denied, match="CLUSTERDOWN"):
        await follower.call(0, [["GET", "a"]])
    with pytest.raises(Unanswered):
        await follower.call(0, [["GET", "a"]])
    fleet.closed.add(address(1))
    with pytest.raises(Denied):
        await follower.call(0, [["GET", "a"]])
    fleet.closed.clear()
    fleet.script = [ErrorReply("MOVED 1 127.0.0.1:7001")] * 9
    with pytest.raises(Denied, match="redirections"):
        await follower.call(0, [["GET", "a"]])


def test_a_cluster_that_is_whole_and_others_that_are_not() -> None:
    nodes = [Node(1, HALF), Node(2, REST), Node(3, master=1), Node(4, master=2)]
    links = {node_id(3): "up", node_id(4): "up"}
    assert find_trouble(picture(*nodes), SIZE, links) == ""
    assert "no link" in find_trouble(picture(*nodes), SIZE, {**links, node_id(4): "down"})
    assert "too few replicas" in find_trouble(picture(*nodes[:3]), SIZE, links)
    assert "slots" in find_trouble(picture(Node(1, HALF), *nodes[2:]), SIZE, links)
    failing = picture(*nodes)
    failing.members[node_id(2)].state = "fail"
    assert "fail" in find_trouble(failing, SIZE, links)
    gone = picture(*nodes)
    gone.absent[node_id(4)] = gone.members.pop(node_id(4)).me
    assert "does not answer" in find_trouble(gone, SIZE, links)


def guarded(number: int, *flags: str) -> Guarded:
    master = GuardedNode(node_id(number), address(number), frozenset({"master", *flags}))
    shard = GuardedShard("shop/1", master, (), 8192, 1, 2)
    return Guarded(Address("127.0.0.1", 27000), "shop", 2, (shard,))


def test_sentinels_that_see_the_same_and_others_that_do_not() -> None:
    assert find_disagreement([guarded(1)], MASTERS) == ""
    assert "7003" in find_disagreement([guarded(3)], MASTERS)
    assert "down" in find_disagreement([guarded(1, "s_down")], MASTERS)
    assert "down" in find_disagreement([guarded(1, "failover_in_progress")], MASTERS)


class Sentinels(Fleet):
    """Nodes that are well, and a sentinel of another make; ``info`` is what it says of itself."""

    def __init__(self, picture: Picture, info: str) -> None:
        super().__init__(SystemNetwork(), address(1), Credentials(), 1.0)
        self._picture = picture
        self._info = info

    async def survey(self) -> Picture:
        return self._picture

    async def ask_all(
        self, members: Iterable[Member], requests: Sequence[Sequence[Word]]
    ) -> dict[str, list[Reply] | Unreachable]:
        return {one.id: [b"master_link_status:up"] for one in members}

    async def call(self, address: Address, *words: Word) -> Reply:
        if words[0] != "INFO":
            raise ErrorReply("ERR unknown command")
        return self._info.encode()


@pytest.mark.parametrize(("tilt", "trouble"), [("0", ""), ("1", "is in TILT")])
async def test_a_sentinel_that_would_do_nothing(tilt: str, trouble: str) -> None:
    """As it would for half a minute after a jump of its clock."""
    nodes = (Node(1, HALF), Node(2, REST), Node(3, master=1), Node(4, master=2))
    fleet = Sentinels(picture(*nodes), f"# Sentinel\r\nsentinel_tilt:{tilt}\r\n")
    lookout = Lookout(fleet, SIZE, [address(1)], [address(9)])
    if trouble:
        with pytest.raises(Failed, match=trouble):
            await lookout.await_whole(0.0)
    else:
        assert len((await lookout.await_whole(0.0)).members) == 4


def test_places() -> None:
    slots = [0, 9000]
    sentinels = [Address("127.0.0.1", 27000)]

    def who(place: Place) -> Address:
        return locate(place, MASTERS, slots, sentinels)

    assert who(Place(MASTER, 1)) == address(2)
    assert who(Place(REPLICA, 0, 0)) == who(Place(REPLICA, 0, 5)) == address(3)
    assert who(Place(SENTINEL, number=0)) == sentinels[0]
    with pytest.raises(Failed, match="no replica"):
        who(Place(REPLICA, 1, 0))
