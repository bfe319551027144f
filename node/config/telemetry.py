"""The directives of metrics and health, of nodes and sentinels alike. Redis has none of them."""

from typing import Final

from node.config.directive import Directive, Integer
from node.config.special import Addresses

TELEMETRY: Final[list[Directive]] = [
    Integer(
        "metrics-port",
        0,
        0,
        65535,
        "HTTP port for `/metrics` (Prometheus), `/healthz` and `/readyz`; 0 for none.",
    ),
    Addresses(
        "metrics-bind",
        ("127.0.0.1", "-::1"),
        "Addresses to listen on for that, written as those of `bind`. Nobody is asked for a "
        "password there.",
        multiple=True,
    ),
]

SECTIONS: Final[list[tuple[str, list[Directive]]]] = [("Metrics and health", TELEMETRY)]
