"""What the families of CLUSTER's commands have in common: they need cluster mode."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cluster.state import Node
from node.component import Component
from node.resp import ReplyError

if TYPE_CHECKING:
    from cluster.cluster import Cluster
    from node.engine import Engine

DISABLED: Final = b"ERR This instance has cluster support disabled"


class ClusterFamily(Component):
    """A family of commands; ``cluster`` is None where there is no cluster mode."""

    def __init__(self, engine: Engine, cluster: Cluster | None) -> None:
        super().__init__(engine)
        self._cluster = cluster

    @property
    def _mode(self) -> Cluster:
        """The cluster mode. Raises ReplyError where there is none."""
        if self._cluster is None:
            raise ReplyError(DISABLED)
        return self._cluster

    def _find(self, name: bytes, text: bytes = b"ERR Unknown node %b") -> Node:
        """A node by its name. Raises ReplyError with ``text``."""
        node = self._mode.state.find(name.decode("latin-1"))
        if node is None:
            raise ReplyError(text % name)
        return node
