"""What a sentinel answers, step by step, beside a real one that guards the same master.

Both know each other and the master's replica. Ports and ids are replaced by what they stand for,
and what depends on time is left out; `{master}` and the like stand for ports in the steps, too.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final

import pytest

from tests.conftest import require_oracle, require_oracle_sentinel
from tests.replicas import wait_until
from tests.sentinels import Sentinel
from tests.servers import Server, sentinel_command
from tests.wire import Client, Error, Map, Reply, render

CANDIDATE: Final = "c" * 40
RIVAL: Final = "d" * 40
# Fields that depend on time, or on what happens to be under way.
PASSING: Final = (
    b"link-pending-commands",
    b"last-ping-sent",
    b"last-ok-ping-reply",
    b"last-ping-reply",
    b"s-down-time",
    b"info-refresh",
    b"role-reported-time",
    b"slave-repl-offset",
    b"last-hello-message",
)
STEPS: Final = r"""
SENTINEL
SENTINEL nosuch
SENTINEL MASTERS x
SENTINEL MASTER
SENTINEL MASTER nosuch
SENTINEL MASTER shop
SENTINEL MASTERS
SENTINEL REPLICAS nosuch
SENTINEL REPLICAS shop
SENTINEL SLAVES shop
SENTINEL SLAVES nosuch
SENTINEL SENTINELS nosuch
SENTINEL SENTINELS shop
SENTINEL MYID
SENTINEL MYID x
SENTINEL GET-MASTER-ADDR-BY-NAME
SENTINEL GET-MASTER-ADDR-BY-NAME nosuch
SENTINEL GET-MASTER-ADDR-BY-NAME shop
SENTINEL CKQUORUM nosuch
SENTINEL CKQUORUM shop
SENTINEL INFO-CACHE
SENTINEL INFO-CACHE nosuch
SENTINEL PENDING-SCRIPTS
SENTINEL PENDING-SCRIPTS x
SENTINEL FAILOVER
SENTINEL FAILOVER nosuch
SENTINEL RESET nosuch*
SENTINEL REMOVE nosuch
SENTINEL FLUSHCONFIG
SENTINEL FLUSHCONFIG x
ROLE
ROLE x
INFO sentinel
INFO memory
INFO commandstats replication
SENTINEL MONITOR other 127.0.0.1 x 1
SENTINEL MONITOR other 127.0.0.1 1 x
SENTINEL MONITOR other 127.0.0.1 1 0
SENTINEL MONITOR other 127.0.0.1 1 -1
SENTINEL MONITOR other no.such.host 1 1
SENTINEL MONITOR other 127.0.0.1 65536 1
SENTINEL MONITOR other 127.0.0.1 -1 1
SENTINEL MONITOR shop 127.0.0.1 1 1
SENTINEL MONITOR other 127.0.0.1 {dead} 2
SENTINEL MASTER other
SENTINEL CKQUORUM other
SENTINEL FAILOVER other
SENTINEL REPLICAS other
SENTINEL SENTINELS other
SENTINEL INFO-CACHE other
SENTINEL GET-MASTER-ADDR-BY-NAME other
SENTINEL SET nosuch quorum 1
SENTINEL SET other
SENTINEL SET other quorum
SENTINEL SET other quorum x
SENTINEL SET other quorum 0
SENTINEL SET other QUORUM 3
SENTINEL SET other nosuch 3
SENTINEL SET other quorum 1 nosuch 3
SENTINEL SET other quorum 2 parallel-syncs
SENTINEL SET other down-after-milliseconds x
SENTINEL SET other down-after-milliseconds 0
SENTINEL SET other down-after-milliseconds 40000 failover-timeout 5000 parallel-syncs 3
SENTINEL SET other failover-timeout -1
SENTINEL SET other parallel-syncs 0
SENTINEL SET other notification-script /bin/true
SENTINEL SET other client-reconfig-script /bin/true
SENTINEL SET other auth-user alice
SENTINEL SET other auth-user ""
SENTINEL SET other rename-command config
SENTINEL SET other rename-command "" x
SENTINEL SET other rename-command config ""
SENTINEL SET other rename-command config hidden
SENTINEL SET other rename-command config CONFIG
SENTINEL SET other master-reboot-down-after-period -1
SENTINEL SET other master-reboot-down-after-period x
SENTINEL SET other master-reboot-down-after-period 100
SENTINEL MASTER other
SENTINEL REMOVE other
SENTINEL MASTER other
SENTINEL CONFIG
SENTINEL CONFIG GET nosuch
SENTINEL CONFIG GET announce*
SENTINEL CONFIG GET RESOLVE-HOSTNAMES
SENTINEL CONFIG SET nosuch 1
SENTINEL CONFIG SET announce-port x
SENTINEL CONFIG SET announce-port -1
SENTINEL CONFIG SET resolve-hostnames x
SENTINEL CONFIG SET announce-hostnames x
SENTINEL CONFIG SET sentinel-user eve
SENTINEL CONFIG SET sentinel-user ""
SENTINEL CONFIG SET announce-port 0
SENTINEL CONFIG GET sentinel-*
SENTINEL DEBUG
SENTINEL DEBUG info-period
SENTINEL DEBUG info-period x
SENTINEL DEBUG info-period 0
SENTINEL DEBUG nosuch 1
SENTINEL DEBUG script-max-runtime 5000 nosuch 1
SENTINEL DEBUG SCRIPT-RETRY-DELAY 700
SENTINEL DEBUG
SENTINEL SIMULATE-FAILURE
SENTINEL SIMULATE-FAILURE nosuch
SENTINEL SIMULATE-FAILURE HELP
SENTINEL SIMULATE-FAILURE crash-after-promotion
INFO sentinel
SENTINEL SIMULATE-FAILURE crash-after-election CRASH-AFTER-PROMOTION
INFO sentinel
SENTINEL SIMULATE-FAILURE crash-after-election nosuch
INFO sentinel
SENTINEL SIMULATE-FAILURE HELP
INFO sentinel
SENTINEL IS-MASTER-DOWN-BY-ADDR 127.0.0.1 {master} 0
SENTINEL IS-MASTER-DOWN-BY-ADDR 127.0.0.1 x 0 *
SENTINEL IS-MASTER-DOWN-BY-ADDR 127.0.0.1 {master} x *
SENTINEL IS-MASTER-DOWN-BY-ADDR 127.0.0.1 {master} 0 *
SENTINEL IS-MASTER-DOWN-BY-ADDR 127.0.0.1 {replica} 7 {candidate}
SENTINEL IS-MASTER-DOWN-BY-ADDR 127.0.0.1 {master} 7 {candidate}
SENTINEL IS-MASTER-DOWN-BY-ADDR 127.0.0.1 {master} 7 {rival}
SENTINEL IS-MASTER-DOWN-BY-ADDR 127.0.0.1 {master} 6 {rival}
SENTINEL IS-MASTER-DOWN-BY-ADDR 127.0.0.1 {master} 8 {rival}
SENTINEL IS-MASTER-DOWN-BY-ADDR 127.0.0.1 {master} 0 *
PUBLISH other hello
PUBLISH __sentinel__:hello nonsense
PUBLISH __sentinel__:hello
SHUTDOWN nosuch
GET x
SET x y
SELECT 0
MULTI
CONFIG GET port
TIME
ECHO x
DEBUG SLEEP 0
MONITOR
REPLICAOF NO ONE
CLIENT SETNAME me
CLIENT GETNAME
CLIENT NOSUCH
AUTH x
HELLO 5
PING
PING x
""".strip().splitlines()
# The commands about clusters, which no other sentinel guards.
CLUSTERS: Final = {"CLUSTER", "CLUSTERS", "MONITOR-CLUSTER"}
# What is told at once of what the steps do.
TOLD: Final = {b"+monitor", b"-monitor", b"+set", b"+new-epoch", b"+vote-for-leader"}


class Pair:
    """A real and a sentinel of ours that guard the same master."""

    def __init__(self, stack: ExitStack) -> None:
        self.master = stack.enter_context(Server(require_oracle(), name="master"))
        follow = ("--replicaof", f"127.0.0.1 {self.master.port}")
        self.replica = stack.enter_context(Server(require_oracle(), *follow, name="replica"))
        statements = (
            f"monitor shop 127.0.0.1 {self.master.port} 2",
            # Nothing may happen here because a busy machine answers late.
            "down-after-milliseconds shop 60000",
        )
        commands = {"real": require_oracle_sentinel(), "ours": sentinel_command()}
        self.sentinels = {
            kind: Sentinel(command, statements, name=f"{kind}-sentinel")
            for kind, command in commands.items()
        }
        for sentinel in self.sentinels.values():
            stack.enter_context(sentinel)
        with self.sentinels["real"].connect() as client:
            client("SENTINEL", "DEBUG", "info-period", "200", "publish-period", "200")
        self.await_readiness()
        self.ids = {kind: self._id(sentinel) for kind, sentinel in self.sentinels.items()}
        with self.sentinels["real"].connect() as client:
            client("SENTINEL", "DEBUG", "info-period", "10000", "publish-period", "2000")

    def await_readiness(self) -> None:
        """Until both are connected with everybody; new credentials let them connect anew."""
        for sentinel in self.sentinels.values():
            wait_until(lambda sentinel=sentinel: self._is_ready(sentinel))  # type: ignore[misc]

    @staticmethod
    def _is_ready(sentinel: Sentinel) -> bool:
        with sentinel.connect(3) as client:
            replicas = client("SENTINEL", "REPLICAS", "shop")
            peers = client("SENTINEL", "SENTINELS", "shop")
        if not (isinstance(replicas, list) and isinstance(peers, list) and replicas and peers):
            return False
        text = render(replicas) + render(peers)
        return "'master-link-status': 'ok'" in text and "disconnected" not in text

    @staticmethod
    def _id(sentinel: Sentinel) -> str:
        with sentinel.connect() as client:
            reply = client("SENTINEL", "MYID")
        assert isinstance(reply, bytes)
        return reply.decode()

    def fill(self, word: str) -> str:
        """A word of a step with what placeholders stand for."""
        for name, text in (
            ("master", self.master.port),
            ("replica", self.replica.port),
            ("dead", 1),
            ("candidate", CANDIDATE),
            ("rival", RIVAL),
        ):
            word = word.replace(f"{{{name}}}", str(text))
        return word

    def hide(self, kind: str, text: str) -> str:
        """A reply's text without what differs between the two by nature."""
        other = "ours" if kind == "real" else "real"
        for known, name in (
            (self.ids[kind], "{me}"),
            (self.ids[other], "{peer}"),
            (str(self.sentinels[kind].port), "{my-port}"),
            (str(self.sentinels[other].port), "{peer-port}"),
        ):
            text = text.replace(known, name)
        return text


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with ExitStack() as stack:
        yield Pair(stack)


def mask(reply: Reply) -> Reply:
    """A reply in which passing things are left out."""
    match reply:
        case Map(pairs):
            return Map([(key, b"~" if key in PASSING else mask(value)) for key, value in pairs])
        case list():
            known = [item for item in reply if isinstance(item, bytes)]
            if len(known) == len(reply) and set(known) & set(PASSING):
                flat = zip(known[::2], known[1::2], strict=True)
                return [[key, b"~" if key in PASSING else value] for key, value in flat]
            return [mask(item) for item in reply]
        case bytes() if reply.startswith(b"# "):
            return _mask_order(reply)
        case _:
            return reply


def _mask_order(text: bytes) -> list[Reply]:
    """Lines about masters in order, without numbers: a real sentinel lists them in any."""
    return [*sorted(re.sub(rb"^master\d+:", b"master:", line) for line in text.splitlines())]


def _say(pair: Pair, client: Client, kind: str, step: str) -> str:
    words = [pair.fill(word) for word in shlex.split(step)]
    reply = client(*words)
    return pair.hide(kind, render(mask(reply)))


@pytest.mark.parametrize("protocol", [2, 3])
def test_replies_and_events(pair: Pair, protocol: int) -> None:
    pair.await_readiness()
    clients = {kind: sentinel.connect(protocol) for kind, sentinel in pair.sentinels.items()}
    listeners = {kind: sentinel.connect() for kind, sentinel in pair.sentinels.items()}
    for listener in listeners.values():
        listener("PSUBSCRIBE", "*")
    for step in STEPS:
        if "IS-MASTER-DOWN" in step and protocol == 3:
            continue  # who has voted in an epoch does so no more
        said = {kind: _say(pair, client, kind, step) for kind, client in clients.items()}
        assert said["ours"] == said["real"], step
    events = {kind: _read_events(pair, kind, listener) for kind, listener in listeners.items()}
    assert events["ours"] == events["real"]
    assert len(events["ours"]) > 10
    for client in (*clients.values(), *listeners.values()):
        client.close()


def _read_events(pair: Pair, kind: str, listener: Client) -> list[str]:
    """What has been told by now of the steps; the answer to PING comes after it."""
    listener.send("PING", "end")
    events: list[str] = []
    while True:
        message = listener.read()
        assert isinstance(message, list), message
        if message[0] == b"pong":
            return events
        assert message[:2] == [b"pmessage", b"*"]
        if message[2] in TOLD:
            events.append(pair.hide(kind, render(message[2:])))


def test_commands_that_there_are(pair: Pair) -> None:
    """All of the real one's but those that a node of ours does not have either, and a few more."""
    names = {}
    for kind, sentinel in pair.sentinels.items():
        with sentinel.connect() as client:
            reply = client("COMMAND", "LIST")
        assert isinstance(reply, list)
        names[kind] = {name.decode() for name in reply if isinstance(name, bytes)}
    missing = names["real"] - names["ours"]
    assert {name for name in missing if not name.startswith("acl")} == {
        *("client|getredir", "client|tracking", "client|trackinginfo"),
    }
    more = {name for name in names["ours"] - names["real"] if not name.startswith("sentinel|")}
    assert more == {"client|no-touch", "client|setinfo", "quit", "reset"}
    assert names["ours"] - names["real"] - more == {f"sentinel|{name.lower()}" for name in CLUSTERS}


def test_what_is_told_of_commands(pair: Pair) -> None:
    """Arity, flags, keys and categories, but for what 7.2 has changed."""
    told: dict[str, dict[str, str]] = {}
    for kind, sentinel in pair.sentinels.items():
        with sentinel.connect() as client:
            reply = client("COMMAND")
        told[kind] = dict(_describe_commands(reply))
    common = set(told["ours"]) & set(told["real"])
    different = {name for name in common if told["ours"][name] != told["real"][name]}
    assert different == {"command|getkeys", "command|getkeysandflags", "sentinel|config"}


def _describe_commands(rows: Reply) -> Iterator[tuple[str, str]]:
    assert isinstance(rows, list)
    for row in rows:
        assert isinstance(row, list)
        name, arity, flags, first, last, step, categories, *_, subcommands = row
        assert isinstance(name, bytes)
        assert isinstance(flags, list)
        assert isinstance(categories, list)
        words = [*sorted(map(render, flags)), *sorted(map(render, categories))]
        numbers = [render(number) for number in (arity, first, last, step)]
        yield name.decode(), " ".join([*numbers, *words])
        yield from _describe_commands(subcommands)


def test_help_names_the_same_commands(pair: Pair) -> None:
    lines = {}
    for kind, sentinel in pair.sentinels.items():
        with sentinel.connect() as client:
            reply = client("SENTINEL", "HELP")
        assert isinstance(reply, list)
        texts = [render(line).removeprefix("+") for line in reply]
        lines[kind] = {text.split(" ")[0] for text in texts if not text.startswith(" ")}
    assert lines["ours"] - CLUSTERS == lines["real"]


def test_sections_of_info(pair: Pair) -> None:
    for sections in ([], ["all"], ["everything"], ["default"], ["server"], ["cpu", "clients"]):
        found = {}
        for kind, sentinel in pair.sentinels.items():
            with sentinel.connect() as client:
                reply = client("INFO", *sections)
            assert isinstance(reply, bytes)
            found[kind] = [line for line in reply.splitlines() if line.startswith(b"#")]
        assert sorted(found["ours"]) == sorted(found["real"]), sections


def test_the_mode_that_hello_tells(pair: Pair) -> None:
    for protocol in (2, 3):
        told = {}
        for kind, sentinel in pair.sentinels.items():
            with sentinel.connect() as client:
                reply = client("HELLO", protocol)
            text = render(reply)
            told[kind] = re.sub(r"'id'(:|,) \d+", "", re.sub(r"'[0-9.]+'", "", text))
        assert told["ours"] == told["real"]


class TestSince72:
    """What a 7.0 sentinel refuses, or answers otherwise."""

    @pytest.fixture
    def client(self, pair: Pair) -> Iterator[Client]:
        with pair.sentinels["ours"].connect() as client:
            yield client

    def test_several_options_at_once(self, client: Client) -> None:
        reply = client(
            "SENTINEL", "CONFIG", "SET", "announce-hostnames", "yes", "LOGLEVEL", "debug"
        )
        assert render(reply) == "+OK"
        reply = client("SENTINEL", "CONFIG", "GET", "announce-h*", "nosuch", "loglevel", "a*s")
        assert reply == [b"announce-hostnames", b"yes", b"loglevel", b"debug"]
        reply = client(
            "SENTINEL", "CONFIG", "SET", "announce-hostnames", "no", "loglevel", "notice"
        )
        assert render(reply) == "+OK"

    @pytest.mark.parametrize(
        ("words", "text"),
        [
            ("announce-port 1 announce-port 2", "ERR Duplicate argument 'announce-port'"),
            ("announce-port 1 announce-ip", "ERR Missing argument 'announce-ip' value"),
            ("announce-port 1 nosuch 1", "ERR Invalid argument 'nosuch' to SENTINEL CONFIG SET"),
            (
                "announce-port 1 loglevel x",
                "ERR Invalid value 'x' to SENTINEL CONFIG SET 'loglevel'",
            ),
        ],
    )
    def test_all_or_none(self, client: Client, words: str, text: str) -> None:
        reply = client("SENTINEL", "CONFIG", "SET", *words.split())
        assert isinstance(reply, Error)
        assert reply.text.decode().startswith(text)
        assert client("SENTINEL", "CONFIG", "GET", "announce-port") == [b"announce-port", b"0"]

    def test_usage(self, client: Client) -> None:
        reply = client("SENTINEL", "CONFIG", "FOO", "x")
        assert isinstance(reply, Error)
        assert reply.text.startswith(b"ERR Only SENTINEL CONFIG GET")
        reply = client("SENTINEL", "CONFIG", "GET")
        assert isinstance(reply, Error)
        assert reply.text == b"ERR wrong number of arguments for 'sentinel|config' command"
