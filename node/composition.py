"""Puts a data server together: which command families and components it has.

Programs that want another set (cluster mode, a sentinel) pass further components, or compose their
own.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Final

from node.client_limits import ClientLimits
from node.clients import Clients
from node.clock import Clock
from node.command import Group
from node.commands import (
    bitmaps,
    blocking_lists,
    expiry,
    hashes,
    keys,
    lists,
    sets,
    sort,
    sorted_set_operations,
    sorted_set_pops,
    sorted_sets,
    strings,
)
from node.commands.config import Configuration
from node.commands.info import Information
from node.commands.introspection import Introspection
from node.commands.memory import Memory
from node.commands.serving import Serving
from node.component import Component, find_component
from node.config import Config
from node.connection import Connections
from node.debugging import Debugging
from node.eviction import Eviction
from node.expiration import Expiration
from node.files import SYSTEM_FILES, Files
from node.latency import Latency
from node.log import Log
from node.migration import Migration
from node.monitor import Monitor
from node.network import Network
from node.pause import Pause
from node.persistence import dump
from node.persistence.aof import AppendOnlyFile
from node.persistence.child import Child
from node.persistence.loading import Loading
from node.persistence.snapshots import Snapshots
from node.pubsub import PubSub
from node.reclamation import Reclamation
from node.replication.departure import Departure
from node.replication.link import Link
from node.replication.replication import Replication
from node.replication.restraint import Restraint
from node.rest import Rest
from node.server import Server
from node.slowlog import SlowLog
from node.telemetry.telemetry import Telemetry
from node.transactions import Transactions

FAMILIES: Final[Sequence[Group]] = (
    strings.GROUP,
    bitmaps.GROUP,
    keys.GROUP,
    dump.GROUP,
    expiry.GROUP,
    sort.GROUP,
    lists.GROUP,
    blocking_lists.GROUP,
    hashes.GROUP,
    sets.GROUP,
    sorted_sets.GROUP,
    sorted_set_operations.GROUP,
    sorted_set_pops.GROUP,
)
COMPONENTS: Final[Sequence[Callable[[Server], Component]]] = (
    Information,
    Expiration,
    Reclamation,
    Eviction,
    Connections,
    Clients,
    ClientLimits,
    PubSub,
    Transactions,
    Monitor,
    Pause,
    Configuration,
    Introspection,
    Memory,
    SlowLog,
    Latency,
    Debugging,
    Serving,
    Migration,
    Telemetry,
)


def compose(
    config: Config,
    log: Log,
    clock: Clock,
    network: Network,
    extend: Callable[[Server, Sequence[Component]], Sequence[Component]] | None = None,
    files: Files = SYSTEM_FILES,
    make_child: Callable[[Server], Child] = Child,
) -> Server:
    """A server with everything that a data node has, and further components after that.

    ``extend`` makes these: it gets the server and the components that there are already.
    """

    def build(server: Server) -> list[Component]:
        for group in FAMILIES:
            server.engine.install_group(group)
        components = [make(server) for make in COMPONENTS]
        components += _make_durable(server, components, make_child(server))
        if extend is not None:
            components += extend(server, components)
        server.rest = Rest(server, components)
        return components

    return Server(config, log, clock, network, build, files)


def _make_durable(server: Server, components: Sequence[Component], child: Child) -> list[Component]:
    """Persistence and replication, whose parts know each other; ``components`` are the others."""
    snapshots = Snapshots(server, child)
    loading = Loading(server, snapshots)
    log = AppendOnlyFile(server, child, loading)
    server.shutdown_hooks += [snapshots.stop_child, log.finish, snapshots.save_finally]
    pause = find_component(components, Pause)
    replication = Replication(server, child, snapshots, log, pause)
    for component in components:
        if isinstance(component, Debugging):
            component.add(b"change-repl-id", 2, 2, replication.change_id)
            component.add(b"object", 3, 4, dump.describe_object)
            component.add(b"reload", 2, sys.maxsize, loading.reload)
    replication.link = Link(replication, loading, child)
    restraint = Restraint(replication, replication.link)
    loading.head_read = replication.take_lineage
    replication.begin()
    masters = replication.masters
    child.after_fork.append(find_component(components, Telemetry).abandon)
    persistence = [child, snapshots, loading, log]
    departure = Departure(replication, pause)
    sides = [masters, masters.acknowledgements, replication.failover, departure, restraint]
    return [*persistence, replication, *sides]
