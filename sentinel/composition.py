"""Puts a sentinel together: the engine, hub and connections of a node, and other commands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from node.client_limits import ClientLimits
from node.clients import Clients
from node.commands.info import Information
from node.commands.introspection import Introspection
from node.commands.serving import Serving
from node.component import Component, find_component
from node.connection import Connections
from node.files import SYSTEM_FILES, Files
from node.pause import Pause
from node.pubsub import PubSub
from node.server import Server
from node.telemetry.telemetry import Telemetry
from sentinel.cluster_commands import ClusterCommands
from sentinel.commands import SentinelCommands
from sentinel.options import Options
from sentinel.telemetry import tell_masters
from sentinel.watcher import Watcher

if TYPE_CHECKING:
    from node.clock import Clock
    from node.config import Config
    from node.log import Log
    from node.network import Network

PORT: Final = 26379

COMPONENTS: Final[Sequence[Callable[[Server], Component]]] = (
    Information,
    Connections,
    Clients,
    ClientLimits,
    PubSub,
    Pause,
    Introspection,
    Serving,
    Telemetry,
)
# What a sentinel serves of the commands that these bring.
COMMANDS: Final = frozenset(
    (
        *(b"auth", b"client", b"command", b"hello", b"info", b"ping", b"psubscribe", b"publish"),
        *(b"punsubscribe", b"quit", b"reset", b"role", b"sentinel", b"shutdown", b"subscribe"),
        b"unsubscribe",
    )
)
# The sections that INFO knows.
SECTIONS: Final = frozenset(("server", "clients", "cpu", "stats", "sentinel"))


class Restriction(Component):
    """Leaves a sentinel no commands but its own."""

    def installed(self) -> None:
        for name in list(self.engine.commands):
            if name not in COMMANDS:
                self.engine.rename(name, b"")


def set_defaults(config: Config) -> None:
    """What is otherwise than on a data server, as long as the configuration does not say."""
    config.adopt("port", PORT)
    config.adopt("protected-mode", False)


def compose(
    config: Config, log: Log, clock: Clock, network: Network, files: Files = SYSTEM_FILES
) -> Server:
    """A sentinel, from its config file. Raises ConfigFileError, CannotStart."""

    def build(server: Server) -> list[Component]:
        components = [make(server) for make in COMPONENTS]
        connections = find_component(components, Connections)
        connections.mode = b"sentinel"
        connections.role = b""
        information = find_component(components, Information)
        information.mode = "sentinel"
        information.offered = SECTIONS
        watcher = Watcher(server, components)
        machine = watcher.machine
        find_component(components, Telemetry).sources.append(lambda: tell_masters(machine))
        commands = SentinelCommands(watcher)
        return [
            *components,
            watcher,
            commands,
            ClusterCommands(watcher, commands),
            Options(watcher),
            Restriction(server.engine),
        ]

    return Server(config, log, clock, network, build, files)
