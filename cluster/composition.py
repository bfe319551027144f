"""Installs cluster mode into a node: what :func:`node.composition.compose` extends a server by.

A node without ``cluster-enabled`` gets the commands alone, which say that there is no cluster.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cluster.cluster import Cluster
from cluster.commands import ClusterCommands
from cluster.inquiries import ENDPOINTS, ClusterInquiries
from cluster.routing import Router
from node.commands.info import Information
from node.commands.memory import Memory
from node.component import Component, find_component
from node.connection import Connections
from node.engine import STAGE_ROUTE
from node.telemetry.telemetry import Telemetry

if TYPE_CHECKING:
    from node.server import Server


def install_cluster(server: Server, components: Sequence[Component]) -> list[Component]:
    """The components of cluster mode. Raises ConfigFileError for a file that cannot be used."""
    config = server.config
    engine = server.engine
    if not config.boolean("cluster-enabled"):
        return [ClusterCommands(engine, None), ClusterInquiries(engine, None, None)]
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
    # One link each way to each other node, as Redis counts them.
    information.count_cluster_links = lambda: 2 * (len(cluster.state.nodes) - 1)
    memory = find_component(components, Memory)
    memory.measure_cluster_links = lambda: cluster.bus.memory
    inquiries = ClusterInquiries(engine, cluster, router)
    find_component(components, Telemetry).fields.append(inquiries.collect_info)
    return [cluster, ClusterCommands(engine, cluster), inquiries]
