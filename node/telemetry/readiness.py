"""Whether a server should be sent clients, told from its INFO."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

SENTINEL_MODE: Final = "sentinel"


def find_obstacle(info: Mapping[str, object]) -> str:
    """Why clients should go elsewhere for now; empty if they should not.

    ``info`` are fields of INFO, and of CLUSTER INFO in cluster mode. Ready is: a server that has
    loaded its data; a replica whose master is connected, and whose data are whole; a node that
    takes its cluster to be up; a sentinel that watches at least one master.
    """
    if _is_set(info.get("loading")):
        return "loading the data from disk"
    if _is_set(info.get("async_loading")):
        return "loading the data of the master"
    if info.get("role") == "slave":
        if _is_set(info.get("master_sync_in_progress")):
            return "all data are coming from the master"
        if info.get("master_link_status") != "up":
            host, port = info.get("master_host", "?"), info.get("master_port", "?")
            return f"the master {host}:{port} is not connected"
    state = info.get("cluster_state", "ok")
    if state != "ok":
        return f"cluster_state is {state}"
    if info.get("redis_mode") == SENTINEL_MODE and not _is_set(info.get("sentinel_masters")):
        return "no master is watched"
    return ""


def _is_set(value: object) -> bool:
    return str(value) not in ("None", "", "0")
