"""Which addresses a server may be unable to listen on."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from node.network import SystemNetwork
from node.server import CannotListen
from tests.inprocess import LocalServer


class Machine(SystemNetwork):
    """A machine on which listening on some addresses fails."""

    def __init__(self, failures: dict[str, OSError]) -> None:
        self.failures = failures

    def listen(self, host: str, port: int, backlog: int) -> list[socket.socket]:
        if host in self.failures:
            raise self.failures[host]
        return super().listen("127.0.0.1", 0, backlog)


MISSING = OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
NO_FAMILY = OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
NO_NUMBERS_OF_FAMILY = socket.gaierror(socket.EAI_FAMILY, "ai_family not supported")
NO_NAME = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
IN_USE = OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


@pytest.mark.parametrize(
    ("address", "error", "starts"),
    [
        ("-lost", MISSING, True),
        ("lost", MISSING, False),
        ("-lost", NO_FAMILY, True),
        ("lost", NO_FAMILY, True),
        ("lost", NO_NUMBERS_OF_FAMILY, True),
        ("-lost", NO_NAME, False),
        ("-lost", IN_USE, False),
    ],
)
def test_an_address_that_fails(tmp_path: Path, address: str, error: OSError, starts: bool) -> None:
    with LocalServer("--bind", "here", address, "--port", "1") as local:
        server = local.server
        server.network = Machine({"lost": error})
        server.log.path = str(tmp_path / "log")
        if starts:
            server.listen()
            assert server.ports == [1]
        else:
            with pytest.raises(CannotListen):
                server.listen()
        log = Path(server.log.path).read_text()
    warning = "# Warning: Could not create server TCP listening socket lost:1: bind: "
    assert warning + str(error.strerror) in log
    assert ("# Failed listening on port 1 (tcp), aborting." in log) is not starts


def test_no_address_of_all_is_there(tmp_path: Path) -> None:
    with LocalServer("--bind", "-lost") as local:
        local.server.network = Machine({"lost": MISSING})
        local.server.log.path = str(tmp_path / "log")
        with pytest.raises(CannotListen):
            local.server.listen()
        assert "# Configured to not listen anywhere, exiting." in (tmp_path / "log").read_text()
