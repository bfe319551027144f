"""Clients that write and read, and write down what they were told."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

import trio

from cluster.chaos.follower import Denied, Follower, Unanswered
from cluster.chaos.history import (
    ACKNOWLEDGED,
    REFUSED,
    UNKNOWN,
    CounterRecord,
    History,
    Load,
    QueueRecord,
    Read,
    RegisterRecord,
    SetRecord,
)
from cluster.tool.connection import Reply, Word

PROBE_INTERVAL: Final = 0.05
WAIT_LIMIT: Final = 500
"""Milliseconds that WAIT may take."""
SETTLE_LIMIT: Final = 30.0
"""Seconds for each key to be read at the end."""
RETRY_INTERVAL: Final = 0.2
NO_REPLY: Final = object()
ROLES: Final = 6
"""Adding, incrementing, pushing, popping, writing and reading registers."""


class Workload:
    """Keys of all kinds on every shard; each client is a task with one kind of operation.

    ``rate`` is operations a second of all clients together, ``replicas`` how many replicas must
    have a write (WAIT) for it to count as acknowledged.
    """

    def __init__(
        self,
        follower: Follower,
        prober: Follower,
        run: str,
        *,
        seed: int,
        clients: int,
        rate: float,
        replicas: int,
        start: float,
    ) -> None:
        self.history = History()
        self.load = Load(0.0)
        self.probes: list[list[tuple[float, bool]]] = [[] for _ in follower.tags]
        self._follower = follower
        self._prober = prober
        self._run = run
        self._seed = seed
        self._clients = clients
        self._period = clients / rate
        self._replicas = replicas
        self._start = start

    def now(self) -> float:
        """Seconds since the beginning."""
        return trio.current_time() - self._start

    def key(self, kind: str, shard: int, number: int = 0) -> str:
        """A key of that kind in a shard."""
        return f"chaos:{self._run}:{kind}:{number}:{{{self._follower.tags[shard]}}}"

    async def work(self) -> None:
        """Write, read and probe until it is cancelled.

        What is under way then is finished, since nothing else could be said of it.
        """
        async with trio.open_nursery() as nursery:
            for number in range(self._clients):
                nursery.start_soon(self._run_client, number)
            for shard in range(len(self.probes)):
                nursery.start_soon(self._probe, shard)

    async def _run_client(self, number: int) -> None:
        role = (
            self._add,
            self._increment,
            self._push,
            self._write,
            self._read,
            self._pop,
        )[number % ROLES]
        source = random.Random(f"{self._seed}:{number}")
        shards = len(self._follower.tags)
        due = trio.current_time() + source.random() * self._period
        turn = 0
        while True:
            await trio.sleep_until(due)
            # Turns that were missed are not made up for.
            due = max(due + self._period, trio.current_time())
            turn += 1
            with trio.CancelScope(shield=True):
                await role(number, turn, (number + turn) % shards, source)

    async def _call(
        self, shard: int, words: Sequence[Word], write: bool = True
    ) -> tuple[str, Reply]:
        """One operation: how it has ended, and the reply, or NO_REPLY."""
        requests: list[Sequence[Word]] = [words]
        if write and self._replicas:
            requests.append(["WAIT", self._replicas, WAIT_LIMIT])
        begin = self.now()
        reply: Reply = NO_REPLY
        try:
            replies = await self._follower.call(shard, requests)
            reply = replies[0]
            enough = len(replies) == 1 or (
                isinstance(replies[1], int) and replies[1] >= self._replicas
            )
            outcome = ACKNOWLEDGED if enough else UNKNOWN
        except Denied:
            outcome = REFUSED
        except Unanswered:
            outcome = UNKNOWN
        self.load.add(begin, self.now(), outcome == ACKNOWLEDGED)
        return outcome, reply

    async def _add(self, number: int, turn: int, shard: int, source: random.Random) -> None:
        key = self.key("set", shard)
        record = self.history.sets.setdefault(key, SetRecord())
        name = f"{number}-{turn}"
        outcome, _ = await self._call(shard, ["SADD", key, name])
        if outcome == ACKNOWLEDGED:
            record.acknowledged.add(name)
        elif outcome == REFUSED:
            record.refused.add(name)

    async def _increment(self, number: int, turn: int, shard: int, source: random.Random) -> None:
        key = self.key("counter", shard)
        record = self.history.counters.setdefault(key, CounterRecord())
        outcome, _ = await self._call(shard, ["INCR", key])
        record.acknowledged += outcome == ACKNOWLEDGED
        record.unknown += outcome == UNKNOWN

    async def _push(self, number: int, turn: int, shard: int, source: random.Random) -> None:
        key = self.key("queue", shard)
        record = self.history.queues.setdefault(key, QueueRecord())
        name = f"{number}-{turn}"
        outcome, _ = await self._call(shard, ["RPUSH", key, name])
        if outcome == ACKNOWLEDGED:
            record.pushed.add(name)
        elif outcome == REFUSED:
            record.refused.add(name)

    async def _pop(self, number: int, turn: int, shard: int, source: random.Random) -> None:
        key = self.key("queue", shard)
        record = self.history.queues.setdefault(key, QueueRecord())
        outcome, reply = await self._call(shard, ["LPOP", key])
        if isinstance(reply, bytes):
            record.popped.append(reply.decode())
            if outcome == UNKNOWN:
                record.doubtful.add(reply.decode())
        record.unknown_pops += outcome == UNKNOWN and reply is NO_REPLY

    async def _write(self, number: int, turn: int, shard: int, source: random.Random) -> None:
        key = self.key("register", shard, number)
        record = self.history.registers.setdefault(key, RegisterRecord(shard))
        outcome, _ = await self._call(shard, ["SET", key, turn])
        if outcome == ACKNOWLEDGED:
            record.acknowledged.append((turn, self.now()))
        elif outcome == UNKNOWN:
            record.unknown.add(turn)

    async def _read(self, number: int, turn: int, shard: int, source: random.Random) -> None:
        writers = [other for other in range(self._clients) if other % ROLES == 3]
        key = self.key("register", shard, source.choice(writers))
        begin = self.now()
        outcome, reply = await self._call(shard, ["GET", key], write=False)
        if outcome == ACKNOWLEDGED:
            record = self.history.registers.setdefault(key, RegisterRecord(shard))
            record.reads.append(Read(begin, self.now(), int(reply or 0)))

    async def _probe(self, shard: int) -> None:
        """Find out whether the shard can be written to."""
        key = self.key("probe", shard)
        while True:
            began = trio.current_time()
            try:
                await self._prober.call(shard, [["SET", key, "1"]])
                good = True
            except (Denied, Unanswered):
                good = False
            self.probes[shard].append((self.now(), good))
            await trio.sleep_until(began + PROBE_INTERVAL)

    async def collect(self) -> None:
        """Read what is there at the end. Raises Denied or Unanswered if a key cannot be read."""
        history = self.history
        for shard in range(len(self.probes)):
            if record := history.sets.get(self.key("set", shard)):
                members = await self._fetch(shard, ["SMEMBERS", self.key("set", shard)])
                record.found = {member.decode() for member in members}
            if counter := history.counters.get(self.key("counter", shard)):
                counter.found = int(
                    await self._fetch(shard, ["GET", self.key("counter", shard)]) or 0
                )
            if queue := history.queues.get(self.key("queue", shard)):
                rest = await self._fetch(shard, ["LRANGE", self.key("queue", shard), 0, -1])
                queue.rest = [name.decode() for name in rest]
        for key, register in history.registers.items():
            begin = self.now()
            reply = await self._fetch(register.shard, ["GET", key])
            register.reads.append(Read(begin, self.now(), int(reply or 0), final=True))

    async def _fetch(self, shard: int, words: Sequence[Word]) -> Reply:
        deadline = trio.current_time() + SETTLE_LIMIT
        while True:
            try:
                return (await self._follower.call(shard, [words]))[0]
            except (Denied, Unanswered):
                if trio.current_time() > deadline:
                    raise
            await trio.sleep(RETRY_INTERVAL)

    async def remove(self) -> None:
        """Delete all keys."""
        for shard in range(len(self.probes)):
            keys = [self.key(kind, shard) for kind in ("set", "counter", "queue", "probe")]
            keys += [key for key, r in self.history.registers.items() if r.shard == shard]
            await self._fetch(shard, ["DEL", *keys])
