"""A running node: an engine, its components and the hub, in one trio nursery."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from types import FrameType
from typing import Final

import trio

from node.clock import Clock
from node.command import Command
from node.component import Component, has_periodic_work
from node.config import Config, ConfigError
from node.engine import STAGE_SHUTDOWN, Engine
from node.files import SYSTEM_FILES, Files
from node.hub import Hub
from node.keyspace import Keyspace
from node.log import Log
from node.network import Network, address_missing, family_missing
from node.resp import NO_REPLY, Reply
from node.session import Session
from node.timer import Timer
from node.values.collection import Limits

SHUTDOWN_FAILED: Final = b"ERR Errors trying to SHUTDOWN. Check logs."


class ShutdownRefused(Exception):
    """Raised by a shutdown hook: the server has to stay up; the reason has been logged."""


class ShutdownRequest:
    """How the server is to go down: the words of SHUTDOWN.

    ``save`` is True or False where it was said whether to save the data, None where the
    configuration decides. ``now``: without waiting for replicas. ``force``: even if saving fails.
    """

    __slots__ = ("save", "now", "force")

    def __init__(self, words: Sequence[str] = ()) -> None:
        self.save = True if "save" in words else False if "nosave" in words else None
        self.now = "now" in words
        self.force = "force" in words


class LoadFailed(Exception):
    """The data on disk cannot be loaded; the reason has been logged."""


class CannotListen(Exception):
    """No address could be listened on; the text has been logged."""


class Server:
    """One node process, put together and run.

    ``build`` makes the components, in the order in which they are installed; each gets the server,
    so that one can find the engine, the hub, the clock and the network.
    """

    def __init__(
        self,
        config: Config,
        log: Log,
        clock: Clock,
        network: Network,
        build: Callable[[Server], Sequence[Component]],
        files: Files = SYSTEM_FILES,
    ) -> None:
        self.config = config
        self.log = log
        self.clock = clock
        self.network = network
        self.files = files
        self.limits = Limits()
        keyspace = Keyspace(config.integer("databases"), self.limits)
        self.engine = Engine(config, clock, log, keyspace)
        self.hub = Hub(self.engine, network.open_poller(), network.pair())
        self.ports: list[int] = []
        self._listening = False
        # Run in order when the server goes down; one that raises ShutdownRefused keeps it up
        # (unless it is forced).
        self.shutdown_hooks: list[Callable[[ShutdownRequest], None]] = []
        # A file that is being written under another name: of no use once the process ends at once.
        self.unfinished = ""
        # Asked before that: whether somebody has to be waited for first, and will call
        # :meth:`finish_shutdown` then; and told to give that up, if there is any such thing.
        self.postpone_shutdown: Callable[[ShutdownRequest], bool] = _postpone_never
        self.abort_shutdown: Callable[[], bool] = _abort_nothing
        self.shutdown_postponed = False
        # Loads the data from disk, at start, while clients are served; see LoadFailed.
        self.load: Callable[[], Awaitable[None]] = _load_nothing
        # Open what else is listened on; each may raise CannotListen.
        self.listen_hooks: list[Callable[[], None]] = []
        # Run in order when the data are there, before clients are served from them.
        self.loaded_hooks: list[Callable[[], None]] = []
        self.loading = False
        # Loading aside, while the old data are served.
        self.async_loading = False
        self._load_scope = trio.CancelScope()
        # Whether nothing at all has been executed since the last periodic work.
        self.quiet = False
        self._ticked_ns = 0
        # Asked where it is so: for how many seconds the next one may wait. It is done as usual as
        # soon as a request comes, or :meth:`end_rest` is called.
        self.rest: Callable[[], float] = _never_rest
        self.resting = False
        self._timer: Timer | None = None
        # Holds up the whole process for so many seconds (DEBUG SLEEP).
        self.sleep: Callable[[float], None] = time.sleep
        self._stop = trio.Event()
        self._timers_changed = trio.Event()
        self.engine.blocking.deadline_changed = self._wake_timers
        for component in build(self):
            self.engine.install(component)
        for component in self.engine.components:
            component.installed()
        for statement in config.statements("rename-command"):
            self._rename_command(statement.words, statement.refuse)
        self._copy_limits()
        config.on_change(
            (
                "hash-max-listpack-entries",
                "hash-max-listpack-value",
                "list-max-listpack-size",
                "list-compress-depth",
                "set-max-intset-entries",
                "set-max-listpack-entries",
                "set-max-listpack-value",
                "zset-max-listpack-entries",
                "zset-max-listpack-value",
                "maxclients",
                "client-query-buffer-limit",
                "proto-max-bulk-len",
                "client-output-buffer-limit",
                "repl-backlog-size",
                "tcp-keepalive",
            ),
            self._copy_limits,
        )
        config.on_change("bind", self._change_bind)
        config.on_change("port", self._change_port)

    def _rename_command(self, words: Sequence[str], refuse: Callable[[str], Exception]) -> None:
        try:
            self.engine.rename(words[0].encode(), words[1].encode())
        except KeyError:
            raise refuse("No such command in rename-command") from None
        except ValueError:
            raise refuse("Target command name already exists") from None

    def _copy_limits(self) -> None:
        config = self.config
        values = self.limits
        values.hash_max_listpack_entries = config.integer("hash-max-listpack-entries")
        values.hash_max_listpack_value = config.integer("hash-max-listpack-value")
        values.list_max_listpack_size = config.integer("list-max-listpack-size")
        values.list_compress_depth = config.integer("list-compress-depth")
        values.set_max_intset_entries = config.integer("set-max-intset-entries")
        values.set_max_listpack_entries = config.integer("set-max-listpack-entries")
        values.set_max_listpack_value = config.integer("set-max-listpack-value")
        values.zset_max_listpack_entries = config.integer("zset-max-listpack-entries")
        values.zset_max_listpack_value = config.integer("zset-max-listpack-value")
        limits = self.hub.limits
        limits.max_clients = config.integer("maxclients")
        limits.query_buffer = config.integer("client-query-buffer-limit")
        limits.bulk_size = config.integer("proto-max-bulk-len")
        limits.keep_alive = config.integer("tcp-keepalive")
        output = config.output_buffer_limits()
        hard, soft, seconds = output["slave"]
        if hard:
            # With less than may be sent for a partial resync a replica would only be cut off again.
            hard = max(hard, config.integer("repl-backlog-size"))
        limits.output = [output["normal"], (hard, soft, seconds), output["pubsub"]]

    # Listening.

    def listen(self) -> None:
        """Open all listening sockets. Raises CannotListen."""
        sockets = self._open_listeners()
        path = self.config.text("unixsocket")
        if path:
            try:
                sockets.append(
                    self.network.listen_unix(
                        path,
                        self.config.integer("unixsocketperm"),
                        self.config.integer("tcp-backlog"),
                    )
                )
            except OSError as error:
                self.log.warning(f"Failed opening Unix socket: bind: {error.strerror}")
                raise CannotListen from None
        if not sockets:
            self.log.warning("Configured to not listen anywhere, exiting.")
            raise CannotListen
        for listener in sockets:
            self.hub.add_listener(listener)
        for hook in self.listen_hooks:
            hook()
        self._listening = True

    def _open_listeners(self) -> list[socket.socket]:
        port = self.config.integer("port")
        found = self.listen_everywhere(port, "tcp") if port else []
        self.ports = [port] if found else []
        return found

    def listen_everywhere(
        self, port: int, kind: str, directive: str = "bind"
    ) -> list[socket.socket]:
        """Sockets listening on a port of all addresses of a directive. Raises CannotListen.

        ``kind`` is what the log calls them.
        """
        found: list[socket.socket] = []
        for address in self.config.values(directive):
            optional = address.startswith("-")
            host = address[1:] if optional else address
            if not host:
                continue
            try:
                found.extend(self.network.listen(host, port, self.config.integer("tcp-backlog")))
            except OSError as error:
                reason = error.strerror or str(error)
                self.log.warning(
                    f"Warning: Could not create server {kind.upper()} listening socket "
                    f"{host}:{port}: bind: {reason}"
                )
                if family_missing(error) or (optional and address_missing(error)):
                    continue
                for listener in found:
                    listener.close()
                self.log.warning(f"Failed listening on port {port} ({kind}), aborting.")
                raise CannotListen from None
        return found

    def _change_bind(self) -> None:
        self._listen_again("Failed to bind to specified addresses.")

    def _change_port(self) -> None:
        self._listen_again("Unable to listen on this port. Check server logs.")

    def _listen_again(self, refusal: str) -> None:
        """CONFIG SET bind or port. Raises ConfigError, after which the old values are set again.

        The old sockets go first, since the new ones may share an address with them; clients that
        are connected stay.
        """
        if not self._listening:
            return
        for listener in self.hub.take_tcp_listeners():
            listener.close()
        try:
            fresh = self._open_listeners()
        except CannotListen:
            raise ConfigError(refusal) from None
        for listener in fresh:
            self.hub.add_listener(listener)

    # Running.

    async def run(
        self,
        *,
        initialized: Callable[[], None] | None = None,
        ready: Callable[[], None] | None = None,
    ) -> None:
        """Serve until :meth:`stop`.

        ``initialized`` is called once clients can connect, ``ready`` when the data are loaded, too.
        Raises CannotListen and LoadFailed. On return all sockets are closed and all tasks have
        ended.
        """
        failed = False
        try:
            self.listen()
            async with trio.open_nursery() as nursery:
                for component in self.engine.components:
                    nursery.start_soon(component.run)
                nursery.start_soon(self._run_timers)
                nursery.start_soon(self._run_ticks)
                nursery.start_soon(self._serve_clients)
                if initialized is not None:
                    initialized()
                try:
                    with self._load_scope:
                        await self.load()
                        for hook in self.loaded_hooks:
                            hook()
                except LoadFailed:
                    failed = True
                else:
                    if ready is not None and not self._stop.is_set():
                        ready()
                    await self._stop.wait()
                nursery.cancel_scope.cancel()
        finally:
            self.hub.close()
        if failed:
            raise LoadFailed

    async def _serve_clients(self) -> None:
        hub = self.hub
        wait_ready = self.network.wait_ready
        # The first request comes after everybody's first step: whatever was started for this turn
        # of trio has run when the second one begins.
        for _ in range(2):
            await trio.lowlevel.checkpoint()
        while True:
            idle = hub.serve()
            if self.resting:
                self.end_rest()
            if idle:
                await wait_ready(hub.poller)
            else:
                await trio.lowlevel.checkpoint()

    def stop(self) -> None:
        """End :meth:`run`, from any task."""
        self._stop.set()
        self._load_scope.cancel()

    def shut_down(self, request: ShutdownRequest) -> bool:
        """Go down in good order: no request is executed any more, and :meth:`run` ends.

        False if somebody is waited for first. Raises ShutdownRefused when the data that are to be
        saved cannot be.
        """
        if self._stop.is_set():
            return True
        if not self.shutdown_postponed:
            self.log.notice("User requested shutdown...")
            if not self.postpone_shutdown(request):
                self.finish_shutdown(request)
        return not self.shutdown_postponed

    def finish_shutdown(self, request: ShutdownRequest) -> None:
        """Go down at once. Raises ShutdownRefused."""
        for hook in self.shutdown_hooks:
            try:
                hook(request)
            except ShutdownRefused:
                if not request.force:
                    self.log.warning(
                        "Errors trying to shut down the server. Check the logs for more "
                        "information."
                    )
                    raise
        self.engine.add_guard(STAGE_SHUTDOWN, _put_aside)
        self.stop()

    async def _run_ticks(self) -> None:
        """The periodic work of all components, ``hz`` times a second."""
        timer = self._timer = self.network.open_timer()
        components = [each for each in self.engine.components if has_periodic_work(each)]
        wait = 0.0
        try:
            while True:
                await timer.wait(wait or 1.0 / self.config.integer("hz"))
                self.resting = False
                wait = 0.0
                if self.engine.cron_paused:
                    continue
                self._tick(components)
                if self.quiet:
                    # In tenths, so that the timer seldom has to be set anew.
                    rest = int(self.rest() * 10) / 10
                    self.resting = rest > 1.0 / self.config.integer("hz")
                    wait = rest if self.resting else 0.0
        finally:
            timer.close()

    def end_rest(self) -> None:
        """Something has happened: do the periodic work as usual."""
        if self.resting:
            self.resting = False
            assert self._timer is not None
            self._timer.hasten(1.0 / self.config.integer("hz"))

    def _tick(self, components: Sequence[Component]) -> None:
        engine = self.engine
        self.quiet = engine.ended_ns == self._ticked_ns
        engine.refresh()
        now = engine.ended_ns
        for component in components:
            try:
                component.tick(now)
            except Exception:
                # Its next turn may go better; the clients have nothing to do with it.
                engine.statistics.unexpected += 1
                self.log.warning(
                    f"Unexpected error in the periodic work of {type(component).__name__}:\n"
                    f"{traceback.format_exc()}"
                )
            if engine.keyspace.pending:
                engine.settle_background()
        self._ticked_ns = engine.ended_ns

    def _wake_timers(self) -> None:
        self._timers_changed.set()

    async def _run_timers(self) -> None:
        """End the waits of blocked clients when their time is up."""
        blocking = self.engine.blocking
        while True:
            self._timers_changed = trio.Event()
            deadline = blocking.next_deadline
            if deadline:
                left = (deadline - self.clock.monotonic_ns()) / 1e9
                if left > 0:
                    with trio.move_on_after(left):
                        await self._timers_changed.wait()
                else:
                    self.engine.refresh()
                    blocking.expire(self.engine.ended_ns)
                    await trio.lowlevel.checkpoint()
            else:
                await self._timers_changed.wait()


async def _load_nothing() -> None:
    return None


def _never_rest() -> float:
    return 0.0


def _postpone_never(request: ShutdownRequest) -> bool:
    return False


def _abort_nothing() -> bool:
    return False


def _put_aside(session: Session, command: Command, argv: list[bytes]) -> Reply:
    return NO_REPLY


async def watch_signals(
    server: Server, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """SIGTERM and SIGINT ask for a clean shutdown; SIGINT while one is asked for ends the process.

    It has started once neither ends the process by itself any more.
    """
    # A terminal that goes away is no reason to end.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    asked = False
    log = server.log

    def receive(number: int, frame: FrameType | None) -> None:
        # Called in the middle of whatever holds the server up, the last snapshot perhaps.
        nonlocal asked
        if asked and number == signal.SIGINT:
            log.warning("You insist... exiting now.")
            if server.unfinished:
                with contextlib.suppress(OSError):
                    server.files.remove(server.unfinished)
            os._exit(1)
        asked = True
        if server.loading:
            log.warning("Received shutdown signal during loading, scheduling shutdown.")
        else:
            log.warning(f"Received {signal.Signals(number).name} scheduling shutdown...")
        assert callable(pass_on)
        pass_on(number, frame)

    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        pass_on = signal.getsignal(signal.SIGINT)
        signal.signal(signal.SIGTERM, receive)
        signal.signal(signal.SIGINT, receive)
        task_status.started()
        async for number in signals:
            name = signal.Signals(number).name
            try:
                server.shut_down(
                    ShutdownRequest(server.config.values(f"shutdown-on-{name.lower()}"))
                )
            except ShutdownRefused:
                asked = False
                log.warning(
                    f"{name} received but errors trying to shut down the server, check the logs "
                    "for more information"
                )
