"""Server processes for tests: our node and the real redis-server, started and stopped alike."""

from __future__ import annotations

import os
import random
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.installation import ROOT, installed_packages
from tests.wire import PONG, Client, Closed, Error

# The program under test: the installed one, with its compiled core, unless there is none.
PACKAGES = installed_packages()
START_LIMIT = 30.0
STOP_LIMIT = 15.0
LOWEST_PORT, HIGHEST_PORT = 22000, 30400


class StartFailure(Exception):
    """The process ended, or did not answer in time; the text holds its log."""


def node_command() -> list[str]:
    """What starts our node; `SENTRIO_NODE` names another command (redis-server, say)."""
    named = os.environ.get("SENTRIO_NODE")
    return shlex.split(named) if named else [sys.executable, "-m", "sentrio", "node"]


def oracle_command() -> list[str] | None:
    """What starts the real server, or None where there is none; `REDIS_SERVER` may name it."""
    path = shutil.which(os.environ.get("REDIS_SERVER", "redis-server"))
    return [path] if path else None


def sentinel_command() -> list[str]:
    """What starts our sentinel, before its config file; `SENTRIO_SENTINEL` may name it."""
    named = os.environ.get("SENTRIO_SENTINEL")
    return shlex.split(named) if named else [sys.executable, "-m", "sentrio", "sentinel"]


def oracle_sentinel_command() -> list[str] | None:
    """What starts the real sentinel, or None where there is none."""
    path = shutil.which(os.environ.get("REDIS_SENTINEL", "redis-sentinel"))
    return [path] if path else None


def environment() -> dict[str, str]:
    """The environment of a server process: the checkout's modules where none are installed."""
    if PACKAGES is not None:
        return dict(os.environ)
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def is_free(port: int) -> bool:
    """Whether a port on the loopback address can be listened on now."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _find_ports() -> Iterator[int]:
    """Free ports in random order, each once.

    They lie below those that the kernel gives to outgoing connections (32768 and higher on Linux):
    one of these may have any number before the server that is meant to listen there has begun, and
    the kernel may name the same one twice to two that ask.
    """
    # Those of another process of the tests may be free only because a server there starts again.
    own = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    ports = list(range(LOWEST_PORT + own, HIGHEST_PORT + 1, processes))
    random.Random().shuffle(ports)
    yield from filter(is_free, ports)


_ports = _find_ports()
_ports_lock = threading.Lock()


def free_port() -> int:
    """A port on the loopback address that nobody listens on now, another one at each call."""
    with _ports_lock:
        return next(_ports)


# Those that were launched and not stopped yet, for who reports a failure.
launched: list[Server] = []


class Server:
    """One server process on a loopback port, in a folder of its own that goes when it stops.

    Without persistence unless the directives say otherwise; `directives` are command line words.
    """

    def __init__(self, command: list[str], *directives: str, name: str = "node") -> None:
        self.command = command
        self.directives = list(directives)
        self.name = name
        self.port = 0
        self.folder = Path(tempfile.mkdtemp(prefix=f"{name}-"))
        self.log_path = self.folder / "log"
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return ("127.0.0.1", self.port)

    @property
    def pid(self) -> int:
        """The process's id, once started."""
        if self.process is None:
            raise RuntimeError("not started")
        return self.process.pid

    @property
    def log(self) -> str:
        """What the process has printed so far."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    @property
    def ending(self) -> str:
        """`runs`, or how the process ended."""
        if self.process is None:
            return "was not started"
        code = self.process.poll()
        return "runs" if code is None else f"ended with {code}"

    def connect(self, protocol: int = 2, timeout: float = 20.0) -> Client:
        """A new connection to it."""
        return Client(self.address, protocol=protocol, timeout=timeout)

    def start(self) -> None:
        """Start and wait until it answers; raises StartFailure with the log if it does not."""
        for attempt in range(5):
            self.port = free_port()
            self._launch()
            try:
                self._wait_until_ready()
                return
            except StartFailure:
                self._end()
                # Another process may have taken the port since it was seen free.
                if attempt == 4 or "in use" not in self.log:
                    raise
            except BaseException:
                self._end()
                raise

    def launch(self) -> None:
        """Start on the port it had, or a free one, without waiting for anything."""
        self.port = self.port or free_port()
        self._launch()

    def await_ready(self, limit: float = START_LIMIT) -> None:
        """Wait until a launched process answers; raises StartFailure if it does not."""
        self._wait_until_ready(limit)

    def await_end(self) -> int:
        """Wait until the process ends by itself; its exit code (minus the signal)."""
        if self.process is None:
            raise RuntimeError("not started")
        return self.process.wait(START_LIMIT)

    def kill(self) -> None:
        """End the process by SIGKILL; its folder stays, and it can be launched again."""
        if self.process is None:
            raise RuntimeError("not started")
        self.process.kill()
        self.process.wait()

    def restart(self, limit: float = START_LIMIT) -> None:
        """Stop by SIGTERM and start again on the same port, with the same folder.

        Waits up to ``limit`` seconds for the first answer that is not LOADING.
        """
        self._end()
        self._launch()
        self._wait_until_ready(limit)

    def stop(self) -> None:
        """Stop by SIGTERM (SIGKILL if it does not heed that) and remove its folder."""
        self._end()
        if self in launched:
            launched.remove(self)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _launch(self) -> None:
        arguments = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        if not {"--save", "--appendonly"} & set(self.directives):
            arguments += ["--save", ""]
        self._spawn([*self.command, *arguments, *self.directives], environment())

    def _spawn(self, command: list[str], variables: dict[str, str]) -> None:
        if self not in launched:
            launched.append(self)
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=variables,
            )

    def _wait_until_ready(self, limit: float = START_LIMIT) -> None:
        process = self.process
        if process is None:
            raise RuntimeError("not started")
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline:
            try:
                with self.connect(timeout=5.0) as client:
                    reply = client("PING")
                # An error (NOAUTH, say) is an answer too, but loading is not yet being ready.
                if reply == PONG or (
                    isinstance(reply, Error) and not reply.text.startswith(b"LOADING")
                ):
                    return
            except (OSError, Closed):
                pass
            try:
                process.wait(0.01)
            except subprocess.TimeoutExpired:
                continue
            raise StartFailure(f"{self.name} ended with {process.returncode}:\n{self.log}")
        raise StartFailure(f"{self.name} did not answer in {limit:.0f} s:\n{self.log}")

    def _end(self) -> None:
        process = self.process
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
