"""A TCP proxy that does what networks do: it holds a link up, slows it down, cuts it anywhere."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator

CHUNK = 16 * 1024


class Proxy:
    """Passes on what comes to :attr:`address` to ``target``, and back.

    ``host`` is where it listens. ``window`` is the receive buffer (SO_RCVBUF) towards the target, 0
    for the kernel's own choice. ``rate`` bounds how many bytes a second come from the target, 0 for
    no bound; it may be changed at any time. ``lifetimes`` says after how many bytes from the target
    the first connection is cut, the second, and so on; the others live as long as they are let, as
    does one of 0 bytes.
    """

    def __init__(
        self,
        target: tuple[str, int],
        *,
        host: str = "127.0.0.1",
        window: int = 0,
        lifetimes: Iterable[int] = (),
    ) -> None:
        self.target = target
        self.window = window
        self.rate = 0
        self.accepted = 0
        self.cuts = 0
        self._lifetimes = iter(lifetimes)
        self._refusing = False
        self._stopped = False
        self._moving = threading.Event()
        self._moving.set()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server((host, 0))
        self._start(self._accept)

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        self._moving.set()
        for thread in self._threads:
            thread.join()

    @property
    def address(self) -> tuple[str, int]:
        """Where to connect."""
        host, port = self._listener.getsockname()
        return host, port

    @property
    def port(self) -> int:
        """The port of it, on the loopback address."""
        return self.address[1]

    # What is done to the link.

    def hold(self) -> None:
        """Read nothing any more, in either direction: the sockets fill up, and nobody is told."""
        self._moving.clear()

    def release(self) -> None:
        """Go on as before :meth:`hold`."""
        self._moving.set()

    def cut(self) -> None:
        """Close all connections; others may be made."""
        with self._lock:
            if self._open:
                self.cuts += 1
            for sock in self._open:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def refuse(self, refusing: bool = True) -> None:
        """Close all connections at once that are made from now on, or do so no more."""
        self._refusing = refusing

    # The threads.

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._stopped:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self._refusing or self._stopped:
                near.close()
                continue
            far = socket.socket()
            if self.window:
                far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.window)
            try:
                far.connect(self.target)
            except OSError:
                near.close()
                far.close()
                continue
            self.accepted += 1
            with self._lock:
                self._open |= {near, far}
            self._start(self._carry, near, far, next(self._lifetimes, 0))

    def _carry(self, near: socket.socket, far: socket.socket, lifetime: int) -> None:
        """One connection, until its end."""
        upwards = threading.Thread(target=self._pass_up, args=(near, far), daemon=True)
        upwards.start()
        with contextlib.suppress(OSError):
            if self._pass_down(far, near, lifetime):
                self.cuts += 1
        with self._lock:
            self._open -= {near, far}
            for sock in (near, far):
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        upwards.join()
        near.close()
        far.close()

    def _pass_up(self, near: socket.socket, far: socket.socket) -> None:
        with contextlib.suppress(OSError):
            for data in self._read(near):
                far.sendall(data)
        # The other direction learns of it, too.
        with contextlib.suppress(OSError):
            far.shutdown(socket.SHUT_RDWR)

    def _pass_down(self, far: socket.socket, near: socket.socket, lifetime: int) -> bool:
        """Whether the connection has lived as long as it was to."""
        left = lifetime
        for data in self._read(far):
            if lifetime and len(data) >= left:
                near.sendall(data[:left])
                return True
            left -= len(data)
            near.sendall(data)
            if self.rate:
                time.sleep(len(data) / self.rate)
        return False

    def _read(self, sock: socket.socket) -> Iterator[bytes]:
        while data := sock.recv(min(CHUNK, self.rate // 20) if self.rate else CHUNK):
            self._moving.wait()
            yield data
