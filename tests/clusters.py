"""Clusters for tests: node processes, the operator's tool, and traffic that keeps the books."""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from redis.backoff import ConstantBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import ClusterError
from redis.retry import Retry

from cluster.tool.commands import cluster as tool_command
from cluster.tool.view import View, parse_nodes
from tests.replicas import wait_until
from tests.servers import Server, free_port
from tests.wire import Client, Error, Reply

NODE_TIMEOUT = 3000


class Node(Server):
    """One node of a cluster, on a bus port of its own choosing."""

    def __init__(self, command: list[str], *directives: str, name: str = "cluster") -> None:
        super().__init__(
            command,
            *("--cluster-enabled", "yes"),
            *("--cluster-node-timeout", str(NODE_TIMEOUT)),
            *("--cluster-port", str(free_port())),
            # A master without slots stays one.
            *("--cluster-allow-replica-migration", "no"),
            *("--repl-diskless-sync-delay", "0"),
            *directives,
            name=name,
        )
        self._client: Client | None = None

    @property
    def at(self) -> str:
        """`host:port`."""
        return f"127.0.0.1:{self.port}"

    @property
    def client(self) -> Client:
        """A connection that stays open."""
        if self._client is None:
            self._client = self.connect()
        return self._client

    def __call__(self, *words: bytes | str | int | float) -> Reply:
        """A request that must not fail; its reply."""
        reply = self.client(*words)
        assert not isinstance(reply, Error), (words, reply)
        return reply

    def forget_client(self) -> None:
        """The connection is gone with the process."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def view(self) -> View:
        """CLUSTER NODES."""
        text = self("CLUSTER", "NODES")
        assert isinstance(text, bytes)
        return parse_nodes(text.decode())

    @property
    def id(self) -> str:
        """Its id."""
        return self.view().myself

    def state(self) -> str:
        """`ok` or `fail`."""
        text = self("CLUSTER", "INFO")
        assert isinstance(text, bytes)
        fields = dict(row.split(":", 1) for row in text.decode().splitlines() if ":" in row)
        return fields["cluster_state"]

    def list_keys(self) -> set[bytes]:
        """All its keys."""
        reply = self("KEYS", "*")
        assert isinstance(reply, list)
        return {key for key in reply if isinstance(key, bytes)}


class Outcome:
    """How a run of the tool has ended."""

    def __init__(self, code: int, stdout: str, stderr: str) -> None:
        self.code = code
        self.stdout = stdout
        self.stderr = stderr

    @property
    def document(self) -> dict[str, Any]:
        """What `--json` has printed."""
        loaded: dict[str, Any] = json.loads(self.stdout)
        return loaded

    def __repr__(self) -> str:
        return f"exit code {self.code}\n{self.stdout}\n{self.stderr}"


def run_tool(*words: str, state: Path | None = None, input: str = "") -> Outcome:
    """`sentrio cluster ...`, in this process; ``state`` is where it may remember things."""
    environment = {"XDG_STATE_HOME": str(state) if state else os.devnull}
    result = CliRunner().invoke(tool_command, words, input=input, env=environment)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Outcome(result.exit_code, result.stdout, result.stderr)


@contextmanager
def nodes_running(command: list[str], count: int, *directives: str) -> Iterator[list[Node]]:
    """So many empty nodes that know nothing of each other."""
    nodes = [Node(command, *directives, name=f"cluster-{n}") for n in range(count)]
    try:
        for node in nodes:
            node.start()
        yield nodes
    finally:
        for node in nodes:
            node.forget_client()
            node.stop()


def wait_for_state(nodes: Sequence[Node], state: str = "ok", limit: float = 30.0) -> None:
    """Until all nodes say so of the cluster."""
    wait_until(lambda: all(node.state() == state for node in nodes), f"state {state}", limit)


class Books:
    """Traffic of all data types by several clients, each of which knows what its keys hold.

    Every reply is compared with what it must be at that moment, so that a stale or a lost value is
    found when it is read; :meth:`audit` compares everything at the end.
    """

    def __init__(self, nodes: Sequence[Node], clients: int = 2, keys: int = 120) -> None:
        self._nodes = nodes
        self._count = keys
        self._stop = threading.Event()
        self._failures: list[str] = []
        self._workers = [_Worker(self._connect(), n, keys, self._failures) for n in range(clients)]
        self._threads: list[threading.Thread] = []

    def _connect(self) -> RedisCluster:
        start = [
            ClusterNode("127.0.0.1", node.port)  # type: ignore[no-untyped-call]
            for node in self._nodes
        ]
        return RedisCluster(startup_nodes=start, retry=Retry(ConstantBackoff(0.05), 100))

    @property
    def requests(self) -> int:
        """How many there have been."""
        return sum(worker.requests for worker in self._workers)

    def __enter__(self) -> Books:
        for worker in self._workers:
            worker.fill()
            thread = threading.Thread(target=worker.run, args=(self._stop,), daemon=True)
            self._threads.append(thread)
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def audit(self, masters: Sequence[Node]) -> None:
        """No key is lost, doubled or stale; to be called when the traffic has ended."""
        assert not self._failures, self._failures[:3]
        held: dict[bytes, list[str]] = {}
        for master in masters:
            for key in master.list_keys():
                held.setdefault(key, []).append(master.at)
        doubled = {key: where for key, where in held.items() if len(where) > 1}
        assert not doubled
        for worker in self._workers:
            worker.audit()
        assert not self._failures, self._failures[:3]
        expected = {key for worker in self._workers for key in worker.expected()}
        assert {key for key in held if key.startswith(b"books:")} == expected


class _Worker:
    """One client; its keys are nobody else's."""

    def __init__(self, db: Any, number: int, keys: int, failures: list[str]) -> None:
        self.requests = 0
        self._db = db
        self._number = number
        self._keys = keys
        self._failures = failures
        self._random = random.Random(number)
        self._strings: dict[str, bytes] = {}
        self._numbers: dict[str, int] = {}
        self._lists: dict[str, list[bytes]] = {}
        self._hashes: dict[str, dict[bytes, bytes]] = {}
        self._sets: dict[str, set[bytes]] = {}
        self._sorted: dict[str, dict[bytes, float]] = {}

    def _name(self, kind: str) -> str:
        return f"books:{self._number}:{kind}:{self._random.randrange(self._keys)}"

    def fill(self) -> None:
        """A big key of each kind."""
        big = f"books:{self._number}:big"
        items = [b"%d:%s" % (n, b"x" * 50) for n in range(20000)]
        for start in range(0, len(items), 2000):
            part = items[start : start + 2000]
            self._db.rpush(f"{big}:list", *part)
            self._db.sadd(f"{big}:set", *part)
        self._db.hset(f"{big}:hash", mapping=dict.fromkeys(items[:5000], b"1"))
        self._db.zadd(f"{big}:sorted", {item: n for n, item in enumerate(items[:5000])})
        self._db.set(f"{big}:string", b"y" * 3_000_000)
        self._lists[f"{big}:list"] = items
        self._sets[f"{big}:set"] = set(items)
        self._hashes[f"{big}:hash"] = dict.fromkeys(items[:5000], b"1")
        self._sorted[f"{big}:sorted"] = {item: float(n) for n, item in enumerate(items[:5000])}
        self._strings[f"{big}:string"] = b"y" * 3_000_000

    def run(self, stop: threading.Event) -> None:
        """Until told to stop, or something is wrong."""
        kinds: list[Callable[[], None]] = [
            self._string,
            self._number_,
            self._list,
            self._hash,
            self._set,
            self._sorted_set,
            self._pair,
            self._big,
        ]
        try:
            while not stop.is_set() and not self._failures:
                self._random.choice(kinds)()
                self.requests += 1
        except Exception as error:
            self._failures.append(repr(error))

    def _expect(self, what: str, found: object, expected: object) -> None:
        if found != expected:
            self._failures.append(f"{what}: {found!r:.200} instead of {expected!r:.200}")

    def _string(self) -> None:
        key = self._name("string")
        self._expect(key, self._db.get(key), self._strings.get(key))
        if self._random.random() < 0.2:
            self._expect(key, self._db.delete(key), int(self._strings.pop(key, None) is not None))
        else:
            value = b"%d" % self._random.randrange(10**9) * self._random.choice([1, 10, 100])
            self._db.set(key, value)
            self._strings[key] = value

    def _number_(self) -> None:
        key = self._name("number")
        self._numbers[key] = self._numbers.get(key, 0) + 1
        self._expect(key, self._db.incr(key), self._numbers[key])

    def _list(self) -> None:
        key = self._name("list")
        held = self._lists.setdefault(key, [])
        if self._random.random() < 0.4:
            self._expect(key, self._db.lpop(key), held.pop(0) if held else None)
        else:
            item = b"%d" % self._random.randrange(10**6)
            held.append(item)
            self._expect(key, self._db.rpush(key, item), len(held))

    def _hash(self) -> None:
        key = self._name("hash")
        held = self._hashes.setdefault(key, {})
        field = b"f%d" % self._random.randrange(20)
        self._expect(key, self._db.hget(key, field), held.get(field))
        value = b"%d" % self._random.randrange(10**6)
        self._expect(key, self._db.hset(key, field, value), int(field not in held))
        held[field] = value

    def _set(self) -> None:
        key = self._name("set")
        held = self._sets.setdefault(key, set())
        member = b"%d" % self._random.randrange(30)
        if self._random.random() < 0.4:
            self._expect(key, self._db.srem(key, member), int(member in held))
            held.discard(member)
        else:
            self._expect(key, self._db.sadd(key, member), int(member not in held))
            held.add(member)

    def _sorted_set(self) -> None:
        key = self._name("sorted")
        held = self._sorted.setdefault(key, {})
        member = b"%d" % self._random.randrange(30)
        held[member] = held.get(member, 0.0) + 2
        self._expect(key, self._db.zincrby(key, 2, member), held[member])

    def _pair(self) -> None:
        tag = self._random.randrange(self._keys)
        keys = [f"books:{self._number}:{{{tag}}}:{n}" for n in range(2)]
        expected = [self._strings.get(key) for key in keys]
        self._expect(keys[0], self._insist(lambda: self._db.mget(keys)), expected)
        values = {key: b"%d" % self._random.randrange(10**6) for key in keys}
        self._insist(lambda: self._db.mset(values))
        self._strings.update(values)

    def _insist(self, request: Callable[[], object]) -> object:
        """TRYAGAIN lasts as long as an interrupted move; the client gives up before."""
        deadline = time.monotonic() + 60
        while True:
            try:
                return request()
            except ClusterError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def _big(self) -> None:
        key = f"books:{self._number}:big:list"
        held = self._lists[key]
        if self._random.random() < 0.5:
            self._expect(key, self._db.lpop(key), held.pop(0))
        else:
            item = b"%d" % self._random.randrange(10**6)
            held.append(item)
            self._expect(key, self._db.rpush(key, item), len(held))

    def expected(self) -> Iterator[bytes]:
        """The keys that must be there."""
        for key in [*self._strings, *self._numbers]:
            yield key.encode()
        for collections in (self._lists, self._hashes, self._sets, self._sorted):
            for key, held in collections.items():
                if held:
                    yield key.encode()

    def audit(self) -> None:
        """Compare everything."""
        db = self._db
        for key, text in self._strings.items():
            self._expect(key, db.get(key), text)
        for key, number in self._numbers.items():
            self._expect(key, db.get(key), b"%d" % number)
        for key, items in self._lists.items():
            self._expect(key, db.lrange(key, 0, -1), items)
        for key, fields in self._hashes.items():
            self._expect(key, db.hgetall(key), fields)
        for key, members in self._sets.items():
            self._expect(key, db.smembers(key), members)
        for key, scores in self._sorted.items():
            self._expect(key, dict(db.zrange(key, 0, -1, withscores=True)), scores)
