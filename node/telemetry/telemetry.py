"""The component: `metrics-port`, `metrics-bind`, and what is there to tell.

What HTTP and the exposition format take (h11, prometheus_client) is imported only once there is a
port: a server without one pays nothing for this.
"""

from __future__ import annotations

import importlib
import socket
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import trio

from node.component import Component
from node.config import ConfigError
from node.latency import Latency
from node.server import CannotListen
from node.slowlog import SlowLog
from node.telemetry.readiness import find_obstacle
from node.telemetry.samples import Sample, read_databases, read_fields, read_identity

if TYPE_CHECKING:
    from node.information import Fields
    from node.server import Server
    from node.telemetry.service import Pause, Service


class Telemetry(Component):
    """Answers scrapes and probes of a server, whatever it is composed of.

    What INFO tells is told here as well. ``fields`` are called for more fields of that kind, which
    readiness looks at, too (those of CLUSTER INFO, say), ``sources`` for samples that are made of
    no field.
    """

    def __init__(self, server: Server) -> None:
        super().__init__(server.engine)
        self._server = server
        self._config = server.config
        self.fields: list[Callable[[], Fields]] = []
        self.sources: list[Callable[[], Iterable[Sample]]] = [self._tell_databases]
        self._slow_log: SlowLog | None = None
        self._latency: Latency | None = None
        self._service: Service | None = None
        self._listeners: list[socket.socket] = []
        self._nursery: trio.Nursery | None = None
        self._scope = trio.CancelScope()
        server.listen_hooks.append(self._listen)
        server.config.on_change(("metrics-port", "metrics-bind"), self._listen_again)

    def installed(self) -> None:
        for component in self.engine.components:
            if isinstance(component, SlowLog):
                self._slow_log = component
                self.sources.append(self._tell_slow)
            elif isinstance(component, Latency):
                self._latency = component
                self.sources.append(self._tell_spikes)

    # Listening.

    def _listen(self) -> None:
        """Raises CannotListen."""
        port = self._config.integer("metrics-port")
        if not port:
            return
        self._listeners = self._server.listen_everywhere(port, "metrics", "metrics-bind")

    def _listen_again(self) -> None:
        """CONFIG SET. Raises ConfigError, after which the old values are set again."""
        if self._nursery is None:
            return
        self._scope.cancel()
        for listener in self._listeners:
            listener.close()
        self._listeners = []
        try:
            self._listen()
        except CannotListen:
            raise ConfigError("Unable to listen for metrics. Check server logs.") from None
        self._begin(self._nursery)

    def _begin(self, nursery: trio.Nursery) -> None:
        if not self._listeners:
            return
        if self._service is None:
            make: type[Service] = importlib.import_module("node.telemetry.service").Service
            self._service = make(self.engine.log, self.collect, self._find_obstacle)
        self._scope = trio.CancelScope()
        nursery.start_soon(self._serve, self._service, self._listeners, self._scope)

    async def _serve(
        self, service: Service, listeners: list[socket.socket], scope: trio.CancelScope
    ) -> None:
        with scope:
            await service.run(listeners)

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self._begin(nursery)
            await trio.sleep_forever()

    def abandon(self) -> None:
        """In a forked child: let go of all sockets, which are the parent's."""
        if self._service is not None:
            self._service.abandon()

    # What is told.

    async def collect(self, pause: Pause) -> list[Sample]:
        """Everything, with a pause wherever others may have their turn."""
        samples: list[Sample] = []
        info: dict[str, object] = {}
        for collect in self._collectors():
            fields = collect()
            info.update(fields)
            samples += read_fields(fields)
            await pause()
        samples += read_identity(info, self._server.clock.wall())
        for source in self.sources:
            samples += source()
            await pause()
        return samples

    def _find_obstacle(self) -> str:
        info: dict[str, object] = {}
        for collect in self._collectors("server", "persistence", "replication", "sentinel"):
            info.update(collect())
        return find_obstacle(info)

    def _collectors(self, *wanted: str) -> Iterable[Callable[[], Fields]]:
        """Of the named sections of INFO, or of all of them, and of further fields."""
        for component in self.engine.components:
            for section in component.sections():
                if not wanted or section.name.lower() in wanted:
                    yield section.collect
        yield from self.fields

    def _tell_databases(self) -> Iterable[Sample]:
        return read_databases(
            [
                (db.index, db.count, db.volatile, db.average_ttl)
                for db in self.engine.keyspace.databases
            ]
        )

    def _tell_slow(self) -> Iterable[Sample]:
        assert self._slow_log is not None
        entries = self._slow_log.entries
        yield Sample("slowlog_length", len(entries))
        yield Sample("slowlog_last_id", entries[0].id if entries else 0)
        taken = entries[0].taken / 1e6 if entries else 0.0
        yield Sample("last_slow_execution_duration_seconds", taken)

    def _tell_spikes(self) -> Iterable[Sample]:
        assert self._latency is not None
        for name, event in self._latency.events.items():
            at, milliseconds = event.samples[-1]
            labels = {"event_name": name.decode("latin-1")}
            yield Sample("latency_spike_last", at, labels)
            yield Sample("latency_spike_duration_seconds", milliseconds / 1e3, labels)
