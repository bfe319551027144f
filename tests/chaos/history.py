"""What clients were told, and whether the data agree with it."""

from __future__ import annotations

import threading
from types import TracebackType

from tests.servers import Server
from tests.wire import QUEUED, Client, Closed, Error, Reply

PAUSE = 0.001
WAIT_MS = 1000
RETRY_SECONDS = 0.05
DATABASE = 9  # of its own, beside the databases of `Traffic`


class Writer:
    """Writes one numbered entry after the other, from a thread, until the end of the block.

    An entry is a transaction: its number goes to the end of a list, a counter is incremented, and
    the number is set. It is *acknowledged* once EXEC has been answered, and *safe* once WAIT has
    said that so many ``replicas`` as asked for have it (0: nobody waits).

    A server that is gone, or that refuses, is asked again and again, with another number each time.
    Whether an entry that was not answered has been executed is unknown.
    """

    def __init__(self, server: Server, replicas: int = 0, name: str = "w") -> None:
        self.name = name
        self.failures = 0
        self.acknowledged: list[int] = []
        self.safe: list[int] = []
        self._replicas = replicas
        self._next = 0
        self._reigns = [(0, server)]
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        if self._error is not None and error is None:
            raise self._error

    def switch(self, server: Server) -> None:
        """Write to this server from the next entry on: it has become the master."""
        with self._lock:
            self._reigns.append((self._next, server))

    def check(self, client: Client) -> None:
        """The data hold what was promised, nothing else, and nothing of it twice.

        Each master's entries that are there are all that it acknowledged, up to the last of them:
        what a promotion may lose (unless it was safe) is the end.
        """
        found = self._read(client)
        assert found == sorted(set(found)), "twice, or out of order"
        assert not found or found[-1] < self._next, "never written"
        there = set(found)
        lost = [n for n in self.safe if n not in there]
        assert not lost, f"{len(lost)} of {len(self.safe)} safe entries are lost: {lost[:10]}"
        borders = [start for start, _ in self._reigns[1:]] + [self._next]
        for (start, _), end in zip(self._reigns, borders, strict=True):
            last = max((n for n in found if start <= n < end), default=start)
            gaps = [n for n in self.acknowledged if start <= n < last and n not in there]
            assert not gaps, f"lost before entry {last}: {gaps[:10]}"

    def check_complete(self, client: Client) -> None:
        """The same, and nothing that was acknowledged has been lost."""
        self.check(client)
        assert not set(self.acknowledged) - set(self._read(client))

    def look(self, client: Client) -> int:
        """How many entries the server has; an entry must be there in whole, or not at all."""
        if isinstance(client("SELECT", DATABASE), Error):
            return 0  # it is loading
        client("MULTI")
        for words in self._queries:
            assert client(*words) == QUEUED
        reply = client("EXEC")
        assert isinstance(reply, list)
        length, count, number, last = reply
        if length == 0:
            return 0
        assert isinstance(length, int)
        assert count == b"%d" % length, reply
        assert last == [number], reply
        return length

    @property
    def _queries(self) -> tuple[tuple[str | int, ...], ...]:
        return (
            ("LLEN", f"log:{self.name}"),
            ("GET", f"count:{self.name}"),
            ("GET", f"last:{self.name}"),
            ("LRANGE", f"log:{self.name}", -1, -1),
        )

    def _read(self, client: Client) -> list[int]:
        self.look(client)
        reply = client("LRANGE", f"log:{self.name}", 0, -1)
        assert isinstance(reply, list)
        return [_number(each) for each in reply]

    # The thread.

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                with self._lock:
                    _, server = self._reigns[-1]
                try:
                    with server.connect() as client:
                        self._write(client, server)
                except (OSError, Closed):
                    self.failures += 1
                    self._stop.wait(RETRY_SECONDS)
        except BaseException as error:
            self._error = error

    def _write(self, client: Client, server: Server) -> None:
        """Write to one server, over one connection."""
        client("SELECT", DATABASE)
        while not self._stop.wait(PAUSE):
            with self._lock:
                if self._reigns[-1][1] is not server:
                    return
                number = self._next
                self._next += 1
            requests: list[tuple[str | int, ...]] = [
                ("MULTI",),
                ("RPUSH", f"log:{self.name}", number),
                ("INCR", f"count:{self.name}"),
                ("SET", f"last:{self.name}", number),
                ("EXEC",),
            ]
            if self._replicas:
                requests.append(("WAIT", self._replicas, WAIT_MS))
            replies = _exchange(client, requests)
            if isinstance(replies[4], Error):
                self.failures += 1
                self._stop.wait(RETRY_SECONDS)
                continue
            self.acknowledged.append(number)
            if self._replicas and _number(replies[5]) >= self._replicas:
                self.safe.append(number)


def _exchange(client: Client, requests: list[tuple[str | int, ...]]) -> list[Reply]:
    for words in requests:
        client.send(*words)
    return [client.read() for _ in requests]


def _number(reply: Reply) -> int:
    assert isinstance(reply, bytes | int), reply
    return int(reply)
