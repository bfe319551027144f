"""The end of a server that has replicas: they are to have everything before it goes.

When it is asked to end (SHUTDOWN without NOW, a signal) and some of its replicas have not said yet
that they have everything, clients' writes are paused, and for at most ``shutdown-timeout`` seconds
the server waits for them; SHUTDOWN's clients wait as well. SHUTDOWN ABORT lets it stay.

(``prepareForShutdown``, ``isReadyToShutdown`` and ``finishShutdown`` in server.c of Redis 7.2.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from node.component import Component
from node.information import Fields, Section
from node.pause import BY_SHUTDOWN, FOREVER, PAUSE_WRITE, Pause
from node.replication.replica import STATE_NAMES
from node.resp import Error
from node.server import SHUTDOWN_FAILED, ShutdownRefused, ShutdownRequest

if TYPE_CHECKING:
    from node.replication.replication import Replication

SECOND_NS: Final = 1_000_000_000


class Departure(Component):
    """What a server does for its replicas before it ends."""

    def __init__(self, replication: Replication, pause: Pause) -> None:
        super().__init__(replication.engine)
        self._server = replication.server
        self._config = replication.config
        self._log = replication.log
        self._masters = replication.masters
        self._history = replication.history
        self._pause = pause
        self._request: ShutdownRequest | None = None
        self._end_ns = 0
        self._server.postpone_shutdown = self.begin
        self._server.abort_shutdown = self.abort
        self._server.shutdown_hooks.insert(0, self.report)
        self._masters.acknowledgements.heard.append(self._check)

    @property
    def _is_ready(self) -> bool:
        acknowledgements = self._masters.acknowledgements
        return all(map(acknowledgements.has_everything, self._masters.replicas))

    def begin(self, request: ShutdownRequest) -> bool:
        """Whether the server has to wait before it ends, as it does from now on."""
        seconds = self._config.integer("shutdown-timeout")
        if request.now or not seconds or self._is_ready:
            return False
        self._masters.acknowledgements.ask()
        self._pause.begin(PAUSE_WRITE, FOREVER, BY_SHUTDOWN)
        self._log.notice("Waiting for replicas before shutting down.")
        self._request = request
        self._server.shutdown_postponed = True
        self._end_ns = self.engine.clock.monotonic_ns() + seconds * SECOND_NS
        return True

    def abort(self) -> bool:
        """SHUTDOWN ABORT; False if nobody has asked for an end."""
        if self._request is None:
            return False
        self._stay()
        self._log.notice("Shutdown manually aborted.")
        return True

    def _stay(self) -> None:
        self._request = None
        self._server.shutdown_postponed = False
        blocking = self.engine.blocking
        for wait in list(blocking.waits):
            if wait.command.name == b"shutdown":
                blocking.end(wait, Error(SHUTDOWN_FAILED))
        self._pause.end(BY_SHUTDOWN)

    def tick(self, now_ns: int) -> None:
        self._check()

    def _check(self) -> None:
        """End if the replicas have everything, or have had enough time."""
        request = self._request
        if request is None:
            return
        if self._is_ready or self.engine.clock.monotonic_ns() >= self._end_ns:
            try:
                self._server.finish_shutdown(request)
            except ShutdownRefused:
                self._stay()

    def report(self, request: ShutdownRequest) -> None:
        """Log which replicas are going to miss something."""
        replicas = self._masters.replicas
        if not replicas:
            return
        lagging = [
            replica
            for replica in replicas
            if not self._masters.acknowledgements.has_everything(replica)
        ]
        now = self.engine.keyspace.now
        for replica in lagging:
            lag = now // 1000 - replica.session.heard // 1000 if replica.streaming else 0
            self._log.notice(
                f"Lagging replica {replica.name} reported offset "
                f"{self._history.offset - replica.offset} behind master, lag={lag}, "
                f"state={STATE_NAMES[replica.state]}."
            )
        self._log.notice(
            f"{len(replicas) - len(lagging)} of {len(replicas)} replicas are in sync when "
            "shutting down."
        )

    def sections(self) -> Sequence[Section]:
        return (Section("Server", self._collect),)

    def _collect(self) -> Fields:
        if self._request is None:
            return []
        left = self._end_ns - self.engine.clock.monotonic_ns()
        return [("shutdown_in_milliseconds", max(0, left // 1_000_000))]
