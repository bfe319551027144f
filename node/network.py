"""The network, handed in: sockets and waiting for them, so that a simulator can pass its own."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from typing import Protocol

import trio

from node.poller import Poller, open_poller
from node.timer import Timer, open_timer


class Network(Protocol):
    """What the server asks of the network."""

    def listen(self, host: str, port: int, backlog: int) -> list[socket.socket]:
        """Non-blocking TCP sockets listening on an address (a name may have several)."""
        ...

    def listen_unix(self, path: str, permissions: int, backlog: int) -> socket.socket:
        """A non-blocking socket listening at a path."""
        ...

    async def connect(self, host: str, port: int, source: str = "") -> trio.abc.Stream:
        """A stream to a TCP server, from the address ``source`` if one is given. Raises OSError."""
        ...

    def share_socket(self, stream: trio.abc.Stream) -> socket.socket | None:
        """A non-blocking socket for the stream's own connection, where it is nothing but that.

        Either may be used, and each is closed by itself.
        """
        ...

    def connect_blocking(self, host: str, port: int, timeout: float) -> socket.socket:
        """A socket that blocks for up to ``timeout`` seconds in whatever is done with it.

        For the rare cases in which nobody else may be served meanwhile. Raises OSError.
        """
        ...

    def open_poller(self) -> Poller:
        """What tells which of many sockets are ready."""
        ...

    def open_timer(self) -> Timer:
        """What wakes the periodic work."""
        ...

    async def wait_ready(self, poller: Poller) -> None:
        """Return when one of the poller's sockets is ready."""
        ...

    def pair(self) -> tuple[socket.socket, socket.socket]:
        """Two non-blocking sockets that are connected with each other, inside this process."""
        ...


class SystemNetwork:
    """The machine's network."""

    def listen(self, host: str, port: int, backlog: int) -> list[socket.socket]:
        """Raises OSError (the address is in use, is not ours, the family is not there)."""
        if host == "*":
            infos = [(socket.AF_INET, ("", port))]
        elif host == "::*":
            infos = [(socket.AF_INET6, ("::", port))]
        else:
            infos = [
                (family, address)  # type: ignore[misc]
                for family, _, _, _, address in socket.getaddrinfo(
                    host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
                )
            ]
        found: list[socket.socket] = []
        for family, address in infos:
            listener = socket.socket(family, socket.SOCK_STREAM)
            try:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                listener.setblocking(False)
                listener.bind(address)
                listener.listen(backlog)
            except OSError:
                listener.close()
                for other in found:
                    other.close()
                raise
            found.append(listener)
            # All listeners of one name share the port that the first one got.
            if port == 0:
                break
        return found

    def listen_unix(self, path: str, permissions: int, backlog: int) -> socket.socket:
        """Raises OSError. A socket left behind at ``path`` is replaced, as in Redis."""
        Path(path).unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.setblocking(False)
            listener.bind(path)
            if permissions:
                Path(path).chmod(permissions)
            listener.listen(backlog)
        except OSError:
            listener.close()
            raise
        return listener

    async def connect(self, host: str, port: int, source: str = "") -> trio.abc.Stream:
        try:
            return await trio.open_tcp_stream(host, port, local_address=source or None)
        except OSError as error:
            # What one of the addresses said is more to the point than that all have failed.
            cause: BaseException | None = error.__cause__
            while isinstance(cause, BaseExceptionGroup):
                cause = cause.exceptions[0]
            raise cause if isinstance(cause, OSError) else error from None

    def share_socket(self, stream: trio.abc.Stream) -> socket.socket | None:
        if not isinstance(stream, trio.SocketStream):
            return None
        shared = socket.socket(fileno=os.dup(stream.socket.fileno()))
        shared.setblocking(False)
        return shared

    def connect_blocking(self, host: str, port: int, timeout: float) -> socket.socket:
        return socket.create_connection((host, port), timeout)

    def open_poller(self) -> Poller:
        return open_poller()

    def open_timer(self) -> Timer:
        return open_timer()

    async def wait_ready(self, poller: Poller) -> None:
        await trio.lowlevel.wait_readable(poller.fileno())

    def pair(self) -> tuple[socket.socket, socket.socket]:
        pair = socket.socketpair()
        for end in pair:
            end.setblocking(False)
        return pair


def describe_failure(error: OSError) -> str:
    """Why a connection could not be made, in the system's words."""
    if error.errno is None or isinstance(error, socket.gaierror):
        return error.strerror or str(error)
    return os.strerror(error.errno)


def address_missing(error: OSError) -> bool:
    """True where the machine lacks the address: an optional one (``-`` prefix) may."""
    return not isinstance(error, socket.gaierror) and error.errno == errno.EADDRNOTAVAIL


def family_missing(error: OSError) -> bool:
    """True where the machine lacks a whole family of addresses, IPv6 say: any address may."""
    if isinstance(error, socket.gaierror):
        return error.errno in (socket.EAI_FAMILY, getattr(socket, "EAI_ADDRFAMILY", None))
    return error.errno in (
        errno.EAFNOSUPPORT,
        errno.ENOPROTOOPT,
        errno.EPROTONOSUPPORT,
        errno.ESOCKTNOSUPPORT,
        errno.EPFNOSUPPORT,
    )
