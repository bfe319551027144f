"""Installs cluster mode into a node: what :func:`node.composition.compose` extends a server by.

A node without ``cluster-enabled`` gets the commands alone, which say that there is no cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from cluster.cluster import Cluster
from cluster.commands import ENDPOINTS, ClusterCommands
from cluster.routing import Router
from node.command import Command
from node.commands.info import Information
from node.component import Component, find_component
from node.connection import Connections
from node.engine import STAGE_ROUTE
from node.resp import Reply, ReplyError
from node.session import Session

if TYPE_CHECKING:
    from node.engine import Engine
    from node.server import Server

Handler = Callable[[Session, list[bytes]], Reply]
Check = Callable[[list[bytes]], None]

# Commands that make no sense where there is one database and the bus says whom to replicate.
REFUSED: Final = {
    b"move": b"ERR MOVE is not allowed in cluster mode",
    b"swapdb": b"ERR SWAPDB is not allowed in cluster mode",
    b"replicaof": b"ERR REPLICAOF not allowed in cluster mode.",
    b"slaveof": b"ERR REPLICAOF not allowed in cluster mode.",
    b"failover": b"ERR FAILOVER not allowed in cluster mode.",
}


def install_cluster(server: Server, components: Sequence[Component]) -> list[Component]:
    """The components of cluster mode. Raises ConfigFileError for a file that cannot be used."""
    config = server.config
    engine = server.engine
    if not config.boolean("cluster-enabled"):
        return [ClusterCommands(engine, None, None)]
    cluster = Cluster(server, components)
    router = Router(engine, cluster.state)

    def configure() -> None:
        router.endpoint = ENDPOINTS[config.text("cluster-preferred-endpoint-type")]
        router.reads_when_down = config.boolean("cluster-allow-reads-when-down")
        router.channels_when_down = config.boolean("cluster-allow-pubsubshard-when-down")

    config.on_change(
        (
            "cluster-preferred-endpoint-type",
            "cluster-allow-reads-when-down",
            "cluster-allow-pubsubshard-when-down",
        ),
        configure,
    )
    configure()
    engine.add_guard(STAGE_ROUTE, router.guard)
    cluster.redirect_waiting = router.redirect_waiting
    find_component(components, Connections).mode = b"cluster"
    information = find_component(components, Information)
    information.mode = "cluster"
    information.cluster_enabled = True
    restrict_commands(engine)
    return [cluster, ClusterCommands(engine, cluster, router)]


def restrict_commands(engine: Engine) -> None:
    """Let commands that reach beyond one slot or database say that they do not."""
    for name, text in REFUSED.items():
        command = engine.commands.get(name)
        if command is not None:
            command.handler = _refuse(text)
    for name, check in ((b"select", _check_select), (b"copy", _check_copy)):
        _check_first(engine.commands[name], check)
    for name in (b"sort", b"sort_ro"):
        _check_first(engine.commands[name], _check_sort)


def _refuse(text: bytes) -> Handler:
    def refuse(ctx: Session, argv: list[bytes]) -> Reply:
        raise ReplyError(text)

    return refuse


def _check_first(command: Command, check: Check) -> None:
    """Let ``check``, which raises ReplyError, look at the arguments before the handler does."""
    handler = command.handler

    def checked(ctx: Session, argv: list[bytes]) -> Reply:
        check(argv)
        return handler(ctx, argv)

    command.handler = checked


def _check_select(argv: list[bytes]) -> None:
    if argv[1].strip() != b"0":
        raise ReplyError(b"ERR SELECT is not allowed in cluster mode")


def _check_copy(argv: list[bytes]) -> None:
    for i in range(3, len(argv) - 1):
        if argv[i].lower() == b"db" and argv[i + 1] != b"0":
            raise ReplyError(b"ERR Copying to another database is not allowed in cluster mode")


def _check_sort(argv: list[bytes]) -> None:
    """BY and GET name keys of any slot."""
    i = 2
    while i < len(argv):
        word = argv[i].lower()
        if word == b"by" and i + 1 < len(argv):
            if b"*" in argv[i + 1]:
                raise ReplyError(b"ERR BY option of SORT denied in cluster mode.")
            i += 1
        elif word == b"get" and i + 1 < len(argv):
            raise ReplyError(b"ERR GET option of SORT denied in cluster mode.")
        elif word == b"limit":
            i += 2
        elif word == b"store":
            i += 1
        i += 1
