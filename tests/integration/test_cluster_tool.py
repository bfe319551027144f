"""`sentrio cluster` with real nodes: every command, under load, and stopped at any moment."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from cluster.slots import key_slot
from cluster.tool.connection import Connection
from node.persistence.rdb_reader import RdbReader
from node.values.collection import Limits
from tests.clusters import Books, Node, Outcome, nodes_running, run_tool, wait_for_state
from tests.conftest import StartServer, require_oracle
from tests.replicas import wait_until
from tests.servers import environment, node_command
from tests.wire import NULL_BULK, Error

COMMANDS = {"redis": require_oracle, "ours": node_command}
KINDS = os.environ.get("SENTRIO_CLUSTER_KINDS", "redis").split(",")


@pytest.fixture(scope="module", params=KINDS)
def command(request: pytest.FixtureRequest) -> list[str]:
    """What starts a node of a cluster."""
    return COMMANDS[request.param]()


@pytest.fixture(scope="module")
def shared(command: list[str]) -> Iterator[list[Node]]:
    """Six nodes, formed by `create` into three masters with a replica each; masters first."""
    with nodes_running(command, 6) as nodes:
        outcome = run_tool("create", *(node.at for node in nodes), "--replicas", "1", "--yes")
        assert outcome.code == 0, outcome
        assert "All 16384 slots are covered by 3 masters" in outcome.stdout
        yield nodes


@pytest.fixture
def masters(shared: list[Node]) -> list[Node]:
    """The three masters of a sound cluster without keys; slots as they come."""
    views = {node.id: node for node in shared}
    view = shared[0].view()
    found = [views[node_id] for node_id, line in view.nodes.items() if line.is_master]
    for node in found:
        node("FLUSHALL")
    if check(shared[0]).code != 0:
        # What an earlier test has left is no reason for this one to fail.
        run_tool("fix", shared[0].at, "--yes", "--conflicts", "owner")
    return sorted(found, key=lambda node: min(node.view().me.slots, default=99999))


@pytest.fixture(scope="module")
def shared_small(command: list[str]) -> Iterator[list[Node]]:
    """Three nodes; how they are to each other is the tests' affair."""
    with nodes_running(command, 3, "--cluster-node-timeout", "1000") as nodes:
        yield nodes


@pytest.fixture
def small(shared_small: list[Node]) -> list[Node]:
    """Three empty nodes that do not know each other."""
    for node in shared_small:
        node.client("FLUSHALL")
        node("CLUSTER", "RESET", "HARD")
    return shared_small


def check(node: Node, *words: str) -> Outcome:
    return run_tool("check", node.at, *words)


def fill(node: Node, slots: Sequence[int], each: int) -> dict[bytes, bytes]:
    """So many keys in each of these slots (of this node)."""
    keys: dict[bytes, bytes] = {}
    tags = tags_of(slots)
    for slot in slots:
        for n in range(each):
            keys[b"{%s}%d" % (tags[slot], n)] = b"value %d of %d" % (n, slot)
    replies = node.client.pipeline([[b"SET", key, value] for key, value in keys.items()])
    assert not [reply for reply in replies if isinstance(reply, Error)]
    return keys


def tags_of(slots: Sequence[int]) -> dict[int, bytes]:
    """A hash tag for each slot."""
    while not all(slot in _TAGS for slot in slots):
        tag = b"%d" % next(_NUMBERS)
        _TAGS.setdefault(key_slot(tag), tag)
    return {slot: _TAGS[slot] for slot in slots}


_TAGS: dict[int, bytes] = {}
_NUMBERS = itertools.count()


def contents(nodes: Sequence[Node]) -> dict[bytes, bytes]:
    """All (string) keys; none may be on two nodes."""
    found: dict[bytes, bytes] = {}
    for node in nodes:
        keys = sorted(node.list_keys())
        for key, value in zip(
            keys, node.client.pipeline([[b"GET", key] for key in keys]), strict=True
        ):
            assert key not in found, key
            assert isinstance(value, bytes), (node.at, key, value)
            found[key] = value
    return found


# What only looks.


def test_create_again_is_done_already(shared: list[Node]) -> None:
    words = ["create", *(node.at for node in shared), "--replicas", "1"]
    outcome = run_tool(*words)
    assert outcome.code == 0, outcome
    assert "already form a cluster" in outcome.stdout
    assert run_tool(*words, "--json").document["changed"] is False
    other = run_tool("create", *(node.at for node in shared))
    assert other.code == 4
    assert "of 3 masters and 3 replicas instead of 6 and 0" in other.stdout
    less = run_tool("create", *(node.at for node in shared[:3]))
    assert less.code == 4
    assert "belongs to another cluster" in less.stdout


def test_looking_around(shared: list[Node], masters: list[Node]) -> None:
    sound = check(shared[4])
    assert sound.code == 0, sound
    assert "All 16384 slots are covered" in sound.stdout
    document = check(shared[4], "--json").document
    assert document["ok"] is True
    assert document["findings"] == []
    assert len(document["nodes"]) == 6
    fill(masters[0], [min(masters[0].view().me.slots)], 5)
    info = run_tool("info", shared[0].at, "--json").document
    assert info["keys"] == 5
    assert [len(master["replicas"]) for master in info["masters"]] == [1, 1, 1]
    assert "5 keys in 3 masters" in run_tool("info", shared[0].at).stdout
    nodes = run_tool("nodes", shared[0].at)
    assert nodes.code == 0
    assert all(node.id in nodes.stdout for node in shared)


def test_call_and_set_timeout(shared: list[Node]) -> None:
    everywhere = run_tool("call", shared[0].at, "ECHO", "--hello")
    assert everywhere.code == 0
    assert everywhere.stdout.count(": --hello\n") == 6
    masters = run_tool("call", "--only-masters", "--json", shared[0].at, "ROLE")
    assert [reply["reply"][0] for reply in masters.document["replies"]] == ["master"] * 3
    replicas = run_tool("call", "--only-replicas", shared[0].at, "SET", "x", "y")
    assert replicas.code == 1
    assert replicas.stdout.count("(error) MOVED") == 3
    assert run_tool("set-timeout", shared[0].at, "50").code == 4
    assert run_tool("set-timeout", shared[0].at, "4000").code == 0
    for node in shared:
        assert node("CONFIG", "GET", "cluster-node-timeout") == [b"cluster-node-timeout", b"4000"]


def test_what_does_not_answer(shared: list[Node], start_oracle: StartServer) -> None:
    nobody = run_tool("check", "127.0.0.1:1", "--timeout", "5")
    assert nobody.code == 3
    assert "Connection refused" in nobody.stdout
    assert run_tool("check", "127.0.0.1:1", "--json").document["exit_code"] == 3
    assert run_tool("check", "nowhere").code == 2
    alone = start_oracle()
    single = run_tool("check", f"127.0.0.1:{alone.port}")
    assert single.code == 4
    assert "not a node of a cluster" in single.stdout
    os.kill(alone.pid, signal.SIGSTOP)
    try:
        silent = run_tool("check", f"127.0.0.1:{alone.port}", "--timeout", "0.2")
    finally:
        os.kill(alone.pid, signal.SIGCONT)
    assert silent.code == 3
    assert "no answer within 0.2 s" in silent.stdout


def test_backup(shared: list[Node], masters: list[Node], tmp_path: Path) -> None:
    keys: dict[bytes, bytes] = {}
    for node in masters:
        keys |= fill(node, sorted(node.view().me.slots)[:3], 20)
    folder = tmp_path / "backup"
    folder.mkdir()
    outcome = run_tool("backup", shared[5].at, str(folder), "--json")
    assert outcome.code == 0, outcome
    files = outcome.document["files"]
    assert sorted(path.name for path in folder.iterdir()) == sorted([*files.values(), "nodes.json"])
    layout = json.loads((folder / "nodes.json").read_text())
    assert len(layout) == 6
    assert sum(node["slots_count"] for node in layout) == 16384
    found: set[bytes] = set()
    for name in files.values():
        found |= keys_of_file(folder / name)
    assert found == set(keys)
    assert run_tool("backup", shared[5].at, str(folder / "nothing")).code == 2


def keys_of_file(path: Path) -> set[bytes]:
    """The keys of an RDB file, as our own reader finds them."""
    reader = RdbReader(Limits())
    records = reader.feed(path.read_bytes())
    assert reader.finished
    return {record.key for record in records}


# Moving slots.


def test_reshard_under_load(shared: list[Node], masters: list[Node], tmp_path: Path) -> None:
    with Books(masters) as books:
        for target, count in ((masters[1], 3000), (masters[0], 5000)):
            outcome = run_tool(
                *("reshard", shared[0].at, "--from", "all", "--to", target.id),
                *("--slots", str(count), "--yes", "--json"),
                state=tmp_path,
            )
            assert outcome.code == 0, outcome
            assert outcome.document["moved"]["slots"] == count
        before = books.requests
        wait_until(lambda: books.requests > before + 50, "traffic", 30)
    books.audit(masters)
    assert check(shared[0]).code == 0
    assert not list(tmp_path.rglob("*.json"))  # no plan is left


def test_the_plan_and_the_answer(shared: list[Node], masters: list[Node]) -> None:
    words = ["reshard", shared[0].at, "--to", masters[0].id, "--slots", "10", "--from", "all"]
    before = masters[0].view().ownership()
    planned = run_tool(*words, "--dry-run", "--json")
    assert planned.code == 0
    assert sum(step["slots_count"] for step in planned.document["plan"]) == 10
    declined = run_tool(*words, input="n\n")
    assert declined.code == 5
    assert "The plan" in declined.stdout
    assert run_tool(*words).code == 4  # nobody to ask
    assert run_tool("reshard", shared[0].at, "--to", masters[0].id).code == 2
    assert run_tool(*words[:4], "--slots", "16384", "--from", "all", "--yes").code == 4
    assert run_tool(*words[:4], "--slots", "10", "--from", shared[0].id[:7] + "x").code == 4
    assert masters[0].view().ownership() == before


def test_rebalance(shared: list[Node], masters: list[Node]) -> None:
    keys: dict[bytes, bytes] = {}
    for node in masters:
        keys |= fill(node, sorted(node.view().me.slots)[:40:4], 3)
    weights = ["--weight", f"{masters[0].id}=2", "--weight", f"{masters[1].at}=0"]
    simulated = run_tool("rebalance", shared[0].at, *weights, "--simulate", "--json")
    assert simulated.code == 0, simulated
    assert simulated.document["done"] is False
    outcome = run_tool("rebalance", shared[0].at, *weights, "--yes")
    assert outcome.code == 0, outcome
    assert [len(node.view().me.slots) for node in masters] == [10923, 0, 5461]
    again = run_tool("rebalance", shared[0].at, "--yes", "--threshold", "60")
    assert "Nothing has to move" in again.stdout
    refused = run_tool("rebalance", shared[0].at, "--weight", f"{masters[1].id}=1")
    assert refused.code == 4
    back = run_tool("rebalance", shared[0].at, "--use-empty-masters", "--yes")
    assert back.code == 0, back
    assert sorted(len(node.view().me.slots) for node in masters) == [5461, 5461, 5462]
    assert contents(masters) == keys


class Stopped(BaseException):
    """The tool has been killed."""


def run_until(monkeypatch: pytest.MonkeyPatch, requests: int, *words: str, state: Path) -> bool:
    """Run the tool, which dies after so many pipelines; whether it was done before."""
    left = requests
    pipeline = Connection.pipeline

    async def counted(self: Connection, *arguments: Any, **options: Any) -> Any:
        nonlocal left
        if left == 0:
            raise Stopped
        left -= 1
        return await pipeline(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Connection, "pipeline", counted)
        try:
            outcome = run_tool(*words, state=state)
        except Stopped:
            return False
        assert outcome.code == 0, outcome
        return True


@pytest.mark.parametrize("then", ["again", "fix"])
def test_stopped_after_any_request(
    then: str,
    shared: list[Node],
    masters: list[Node],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever the tool was about to ask next, running it again or `fix` ends well."""
    source, target = masters[0], masters[1]
    chance = random.Random(then)
    number = 0
    while True:
        slots = sorted(source.view().me.slots)[:3]
        source("FLUSHALL")
        target("FLUSHALL")
        keys = fill(source, slots, 4)
        words = ["reshard", shared[0].at, "--from", source.id, "--to", target.id]
        words += ["--slots", "3", "--pipeline", "2", "--yes"]
        done = run_until(monkeypatch, number, *words, state=tmp_path)
        if not done:
            again = words if then == "again" else ["fix", shared[0].at, "--yes"]
            outcome = run_tool(*again, state=tmp_path)
            assert outcome.code == 0, (number, outcome)
        assert contents(masters) == keys
        assert check(shared[0], "--no-strays").code == 0
        if then == "again":
            assert set(slots) <= target.view().me.slots, number
        if done:
            break
        for path in tmp_path.rglob("*.json"):
            path.unlink()
        number += chance.randrange(1, 6)
    assert number > 15


def test_killed_under_load(shared: list[Node], masters: list[Node], tmp_path: Path) -> None:
    source, target = masters[2], masters[0]
    had = len(target.view().me.slots)
    words = ["reshard", shared[0].at, "--from", source.id, "--to", target.id]
    words += ["--slots", "1200", "--pipeline", "3", "--yes"]
    with Books(masters, keys=300) as books:
        wait_until(lambda: books.requests > 1500, "traffic", 60)
        for share in (0, 200, 600):
            process = subprocess.Popen(
                [sys.executable, "-m", "sentrio", "cluster", *words],
                stdout=subprocess.DEVNULL,
                env={**environment(), "XDG_STATE_HOME": str(tmp_path)},
            )
            wait_until(
                lambda share=share: (  # type: ignore[misc]
                    len(target.view().me.slots) >= had + share and bool(source.view().migrating)
                ),
                "the move",
                60,
            )
            process.kill()
            process.wait()
        outcome = run_tool(*words, state=tmp_path)
        assert outcome.code == 0, outcome
        assert "This goes on with the reshard begun" in outcome.stdout
    assert len(target.view().me.slots) == had + 1200
    books.audit(masters)
    assert check(shared[0]).code == 0


def test_a_master_fails_over_while_its_slots_move(
    shared: list[Node], masters: list[Node], tmp_path: Path
) -> None:
    """The move goes on from the replica that has become master, in the same run."""
    source, target = masters[0], masters[1]
    view = shared[0].view()
    replica = next(node for node in shared if view.nodes[node.id].master == source.id)
    slots = sorted(source.view().me.slots)[:600]
    keys = fill(source, slots, 2)
    words = ["reshard", shared[0].at, "--from", source.id, "--to", target.id]
    words += ["--slots", "600", "--pipeline", "1", "--yes"]
    process = subprocess.Popen(
        [sys.executable, "-m", "sentrio", "cluster", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**environment(), "XDG_STATE_HOME": str(tmp_path)},
    )
    try:
        wait_until(lambda: bool(source.view().migrating), "the move", 60)
        failed_over = run_tool("failover", replica.at, "--yes")
        assert failed_over.code == 0, failed_over
        text, _ = process.communicate(timeout=90)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, text.decode()
    assert set(slots) <= target.view().me.slots
    repaired = run_tool("fix", shared[0].at, "--yes")
    assert repaired.code == 0, repaired
    assert contents([replica, target, masters[2]]) == keys
    assert run_tool("failover", replica.at, "--yes").stdout.count("already") == 1


# Trouble.


def other(masters: list[Node], *besides: Node) -> Node:
    return next(node for node in masters if node not in besides)


def test_fix_closes_and_finishes(shared: list[Node], masters: list[Node]) -> None:
    a, b = masters[0], masters[1]
    slots = sorted(a.view().me.slots)[:4]
    keys = fill(a, slots, 3)
    only_source, only_target, both, foreign = slots
    a("CLUSTER", "SETSLOT", only_source, "MIGRATING", b.id)
    b("CLUSTER", "SETSLOT", only_target, "IMPORTING", a.id)
    a("CLUSTER", "SETSLOT", both, "MIGRATING", b.id)
    b("CLUSTER", "SETSLOT", both, "IMPORTING", a.id)
    other(masters, a, b)("CLUSTER", "SETSLOT", foreign, "IMPORTING", a.id)
    found = check(shared[0], "--json")
    assert found.code == 1
    assert {finding["kind"] for finding in found.document["findings"]} == {"open"}
    refused = run_tool("add-node", "127.0.0.1:1", shared[0].at)
    assert refused.code == 4
    assert "sentrio cluster fix" in refused.stdout
    shown = run_tool("fix", shared[0].at, "--dry-run")
    assert shown.code == 1
    assert "a move is unfinished" in shown.stdout
    assert check(shared[0]).code == 1
    outcome = run_tool("fix", shared[0].at, "--yes")
    assert outcome.code == 0, outcome
    assert both in b.view().me.slots
    assert {only_source, only_target, foreign} <= a.view().me.slots
    assert contents(masters) == keys
    assert "nothing to mend" in run_tool("fix", shared[0].at).stdout


def plant(node: Node, owner: Node, slot: int, keys: dict[bytes, bytes]) -> None:
    """Keys of a slot on a node that does not have it."""
    node("CLUSTER", "SETSLOT", slot, "IMPORTING", owner.id)
    for key, value in keys.items():
        node("ASKING")
        node("SET", key, value)
    node("CLUSTER", "SETSLOT", slot, "STABLE")


def test_fix_collects_stray_keys(shared: list[Node], masters: list[Node]) -> None:
    a, b = masters[0], masters[1]
    slot = min(a.view().me.slots)
    keys = fill(a, [slot], 4)
    tag = tags_of([slot])[slot]
    strays = {b"{%s}stray%d" % (tag, n): b"stray" for n in range(30)}
    plant(b, a, slot, {**strays, **dict(list(keys.items())[:2])})  # two are on both, and equal
    found = check(shared[0], "--json").document["findings"]
    assert [finding["kind"] for finding in found] == ["strays"]
    assert check(shared[0], "--no-strays").code == 0
    outcome = run_tool("fix", shared[0].at, "--yes")
    assert outcome.code == 0, outcome
    assert contents(masters) == {**keys, **strays}
    # Different values are not merged by chance.
    key = next(iter(keys))
    for choice, winner in (("owner", keys[key]), ("stray", b"another")):
        plant(b, a, slot, {key: b"another"})
        refused = run_tool("fix", shared[0].at, "--yes")
        assert refused.code == 1, refused
        assert "different values" in refused.stdout
        assert b("CLUSTER", "COUNTKEYSINSLOT", slot) == 1
        outcome = run_tool("fix", shared[0].at, "--yes", "--conflicts", choice)
        assert outcome.code == 0, outcome
        assert contents(masters) == {**keys, **strays, key: winner}


def test_reshard_does_not_overwrite(shared: list[Node], masters: list[Node]) -> None:
    """A key that the target has already is only merged if it is equal, or by --replace."""
    a, b = masters[0], masters[1]
    slot = min(a.view().me.slots)
    keys = fill(a, [slot], 3)
    key = next(iter(keys))
    plant(b, a, slot, {key: b"another"})
    words = ["reshard", shared[0].at, "--to", b.id, "--slots", f"{slot}-{slot}", "--yes"]
    refused = run_tool(*words)
    assert refused.code == 1, refused
    assert "1 keys have different values" in refused.stdout
    outcome = run_tool(*words, "--replace")
    assert outcome.code == 0, outcome
    assert contents(masters) == keys


def test_create_completes_what_had_begun(small: list[Node]) -> None:
    addresses = [node.at for node in small]
    assert run_tool("create", *addresses, "--dry-run").code == 0
    assert run_tool("create", *addresses[:2], "--yes").code == 4
    assert run_tool("create", *addresses, input="n\n").code == 5
    small[0]("CLUSTER", "ADDSLOTSRANGE", 0, 5000)
    small[0]("CLUSTER", "SET-CONFIG-EPOCH", 1)
    small[1]("CLUSTER", "MEET", "127.0.0.1", small[0].port, small[0].view().me.bus_port)
    wait_until(lambda: len(small[1].view().known()) == 2, "the meeting", 30)
    outcome = run_tool("create", *addresses, "--yes")
    assert outcome.code == 0, outcome
    assert "it is going to be completed" in outcome.stdout
    assert check(small[0]).code == 0
    assert [len(node.view().me.slots) for node in small] == [5461, 5462, 5461]


def test_create_refuses_what_is_in_use(small: list[Node]) -> None:
    addresses = [node.at for node in small]
    small[2]("CLUSTER", "ADDSLOTS", 5)
    outcome = run_tool("create", *addresses, "--yes")
    assert outcome.code == 4
    assert "already has slots" in outcome.stdout
    assert all(len(node.view().nodes) == 1 for node in small)


def test_members_come_and_go(small: list[Node], shared: list[Node], masters: list[Node]) -> None:
    new, replica = small[0], small[1]
    entry = shared[0].at
    # By names, which CLUSTER MEET would not take.
    by_name = entry.replace("127.0.0.1", "localhost")
    added = run_tool("add-node", new.at, by_name, "--yes")
    assert added.code == 0, added
    assert run_tool("add-node", new.at, entry, "--json").document["changed"] is False
    added = run_tool("add-node", replica.at, entry, "--master-id", new.id, "--yes")
    assert added.code == 0, added
    assert replica.view().me.master == new.id
    moved = run_tool("reshard", entry, "--to", new.id, "--from", "all", "--slots", "7", "--yes")
    assert moved.code == 0, moved
    refused = run_tool("del-node", entry, new.id, "--yes")
    assert refused.code == 4
    assert "7 slots" in refused.stdout
    assert (
        run_tool("rebalance", entry, "--weight", f"{new.id}=0", "--threshold", "0", "--yes").code
        == 0
    )
    gone = run_tool("del-node", entry, new.at, "--yes")
    assert gone.code == 0, gone
    assert replica.view().me.master in {node.id for node in masters}
    node_id = replica.id
    replica.forget_client()
    replica.kill()
    # Nobody has to answer for being forgotten.
    assert run_tool("del-node", entry, node_id, "--yes").code == 0
    assert all(len(node.view().known()) == 6 for node in shared)
    assert len(new.view().nodes) == 1
    replica.restart()


def test_fix_without_masters_only_if_told(small: list[Node]) -> None:
    addresses = [node.at for node in small]
    assert run_tool("create", *addresses, "--yes").code == 0
    keys = fill(small[0], [0, 1], 2)
    dead = small[2].id
    small[2].forget_client()
    small[2].kill()
    wait_for_state(small[:2], "fail")
    found = check(small[0], "--json")
    assert found.code == 1
    assert {finding["kind"] for finding in found.document["findings"]} >= {
        "uncovered",
        "unreachable",
    }
    refused = run_tool("fix", small[0].at, "--yes")
    assert refused.code == 4
    assert "Masters with slots cannot be reached" in refused.stdout
    outcome = run_tool("fix", small[0].at, "--yes", "--fix-with-unreachable-masters")
    assert outcome.code == 0, outcome
    assert contents(small[:2]) == keys
    assert abs(len(small[0].view().me.slots) - len(small[1].view().me.slots)) <= 2
    assert run_tool("del-node", small[1].at, dead, "--yes").code == 0
    assert check(small[0], "--strict").code == 0
    small[2].restart()


def test_import(shared: list[Node], masters: list[Node], start_oracle: StartServer) -> None:
    source = start_oracle("--requirepass", "secret")
    client = source.connect()
    client("AUTH", "secret")
    keys = {b"key:%d" % n: b"value %d" % n for n in range(700)}
    client.pipeline([[b"SET", key, value] for key, value in keys.items()])
    words = ["import", shared[0].at, "--from", f"127.0.0.1:{source.port}"]
    assert run_tool(*words, "--yes").code == 3
    words += ["--from-password", "secret"]
    copied = run_tool(*words, "--copy", "--yes", "--json")
    assert copied.code == 0, copied
    assert copied.document["moved"] == 700
    assert contents(masters) == keys
    assert client("DBSIZE") == 700
    # Run again, with a key that has changed meanwhile.
    client("SET", "key:5", "new")
    busy = run_tool(*words, "--yes", "--copy")
    assert busy.code == 1
    assert "1 keys are in the cluster already" in busy.stdout
    assert contents(masters) == keys
    moved = run_tool(*words, "--yes", "--replace")
    assert moved.code == 0, moved
    assert client("DBSIZE") == 0
    assert contents(masters) == {**keys, b"key:5": b"new"}
    client.close()


def test_a_password(
    shared: list[Node], masters: list[Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = masters[0], masters[1]
    slot = min(a.view().me.slots)
    keys = fill(a, [slot], 5)
    for node in shared:
        node("CONFIG", "SET", "requirepass", "secret", "masterauth", "secret")
        node("AUTH", "secret")
    try:
        assert check(shared[0]).code == 3
        assert check(shared[0], "-a", "wrong").code == 3
        monkeypatch.setenv("REDISCLI_AUTH", "secret")
        words = ["reshard", shared[0].at, "--to", b.id, "--slots", f"{slot},{slot + 1}", "--yes"]
        outcome = run_tool(*words)
        assert outcome.code == 0, outcome
        assert run_tool(*words, "--user", "default").code == 0
    finally:
        for node in shared:
            node("CONFIG", "SET", "requirepass", "", "masterauth", "")
    assert b("GET", next(iter(keys))) == keys[next(iter(keys))]
    assert a.client("GET", next(iter(keys))) != NULL_BULK
