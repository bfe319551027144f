"""The directives of cluster mode."""

from typing import Final

from node.config.checks import check_host_name, check_node_name
from node.config.directive import INT_MAX, Bool, Directive, Enum, Integer, Memory, Text
from node.config.syntax import INT64_MAX, UINT64_MAX

CLUSTER: Final[list[Directive]] = [
    Bool("cluster-enabled", False, "Run as a node of a cluster.", mutable=False),
    Text(
        "cluster-config-file",
        "nodes.conf",
        "File that holds the state of the cluster.",
        mutable=False,
    ),
    Integer(
        "cluster-node-timeout",
        15000,
        0,
        INT64_MAX,
        "Milliseconds of silence after which a node counts as failing.",
    ),
    Integer(
        "cluster-ping-interval",
        1000,
        0,
        INT64_MAX,
        "Milliseconds between pings to other nodes.",
        hidden=True,
    ),
    Integer("cluster-port", 0, 0, 65535, "Port of the bus; 0 for port + 10000.", mutable=False),
    Integer(
        "cluster-replica-validity-factor",
        10,
        0,
        INT_MAX,
        "Multiples of the node timeout after which a replica's data is too old to take over.",
        aliases=("cluster-slave-validity-factor",),
    ),
    Integer("cluster-migration-barrier", 1, 0, INT_MAX, "Replicas that a master never gives away."),
    Bool("cluster-allow-replica-migration", True, "Let replicas move to masters without any."),
    Bool("cluster-require-full-coverage", True, "Serve nothing while a slot is not covered."),
    Bool(
        "cluster-replica-no-failover",
        False,
        "Never take over unasked.",
        aliases=("cluster-slave-no-failover",),
    ),
    Bool("cluster-allow-reads-when-down", False, "Serve reads while the cluster is down."),
    Bool("cluster-allow-pubsubshard-when-down", True, "Serve sharded pub/sub while it is down."),
    Memory("cluster-link-sendbuf-limit", 0, 0, UINT64_MAX, "Bytes that may wait on a bus link."),
    Text("cluster-announce-ip", "", "Address to tell other nodes.", absent_if_empty=True),
    Integer("cluster-announce-port", 0, 0, 65535, "Port to tell other nodes."),
    Integer("cluster-announce-tls-port", 0, 0, 65535, "TLS port to tell other nodes."),
    Integer("cluster-announce-bus-port", 0, 0, 65535, "Bus port to tell other nodes."),
    Text(
        "cluster-announce-hostname",
        "",
        "Host name to tell other nodes.",
        absent_if_empty=True,
        check=check_host_name,
    ),
    Text(
        "cluster-announce-human-nodename",
        "",
        "Name of this node in the logs of others.",
        absent_if_empty=True,
        check=check_node_name,
    ),
    Enum(
        "cluster-preferred-endpoint-type",
        "ip",
        ("ip", "hostname", "unknown-endpoint"),
        "What redirections name.",
    ),
]

SECTIONS: Final[list[tuple[str, list[Directive]]]] = [("Cluster", CLUSTER)]
