"""What the reply to INFO says to a sentinel."""

from __future__ import annotations

from typing import Final

RUN_ID_LENGTH: Final = 40


class Information:
    """The lines that matter. What is not there has the value that Redis takes for it.

    ``role`` is "master", "slave", or "" if it says nothing of that kind. The fields of a replica
    are None where they are missing.
    """

    __slots__ = (
        "has_keys",
        "master_host",
        "master_link_down_time",
        "master_link_up",
        "master_port",
        "offset",
        "priority",
        "replica_announced",
        "replicas",
        "role",
        "run_id",
    )

    def __init__(self) -> None:
        self.run_id = ""
        self.role = ""
        self.replicas: list[tuple[str, int]] = []  # of a master: host and port
        self.master_link_down_time = 0  # milliseconds; negative: it has never been up
        self.has_keys = False
        self.master_host: str | None = None
        self.master_port: int | None = None
        self.master_link_up: bool | None = None
        self.priority: int | None = None
        self.offset: int | None = None
        self.replica_announced: bool | None = None


def parse_information(text: str) -> Information:
    """Read a reply to INFO (``sentinelRefreshInstanceInfo``, its first half).

    Lines that make no sense are taken as if they were missing.
    """
    information = Information()
    for line in text.split("\r\n"):
        name, colon, value = line.partition(":")
        if not colon:
            continue
        if name == "run_id":
            if len(value) >= RUN_ID_LENGTH:
                information.run_id = value[:RUN_ID_LENGTH]
        elif name == "role":
            if value.startswith(("master", "slave")):
                information.role = "master" if value.startswith("master") else "slave"
        elif name.startswith("slave") and name[5:].isdigit():
            place = _parse_replica(value)
            if place is not None:
                information.replicas.append(place)
        elif name == "master_link_down_since_seconds":
            information.master_link_down_time = (_number(value) or 0) * 1000
        elif name.startswith("db") and name[2:].isdigit():
            information.has_keys = True
        else:
            _read_replica_field(information, name, value)
    return information


def _read_replica_field(information: Information, name: str, value: str) -> None:
    if name == "master_host":
        information.master_host = value
    elif name == "master_port":
        information.master_port = _number(value)
    elif name == "master_link_status":
        information.master_link_up = value.lower() == "up"
    elif name == "slave_priority":
        information.priority = _number(value)
    elif name == "slave_repl_offset":
        information.offset = _number(value)
    elif name == "replica_announced":
        information.replica_announced = _number(value) != 0


def _parse_replica(value: str) -> tuple[str, int] | None:
    """``ip=...,port=...,...``, or ``<ip>,<port>,<state>`` of servers before 2.8."""
    if "ip=" in value:
        fields = dict(field.partition("=")[::2] for field in value.split(","))
        host, port = fields.get("ip", ""), _number(fields.get("port", ""))
    else:
        parts = value.split(",")
        if len(parts) < 2:
            return None
        host, port = parts[0], _number(parts[1])
    if not host or port is None or not 0 < port < 65536:
        return None
    return host, port


def _number(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None
