"""The sentinel of a server: the machine, connected with the world.

This component is the machine's :class:`~sentinel.machine.Outside`. It gives it time, connections,
host names, the log, subscribers and scripts, and it saves what the machine knows in the config
file: in a thread, while requests wait that must not leave before (rule 1 of :mod:`.machine`);
before clients are answered, at once.

Time is that of the monotonic clock, counted like the wall's. A wall clock that jumps changes
nothing by that, but it is a sign that the machine was suspended or is being tampered with, and
brings TILT as in Redis.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from node.component import Component, find_component
from node.config.syntax import encode
from node.log import LEVELS
from node.process import CannotStart
from node.pubsub import PubSub
from sentinel.config_file import ConfigFile, Reader
from sentinel.connections import Connections
from sentinel.machine import Half, Machine, Outside, Request, Settings, is_ip
from sentinel.names import Names, look_up_now
from sentinel.scripts import Scripts
from sentinel.state import Instance, Link, Master, Peer, Replica, State

if TYPE_CHECKING:
    from node.server import Server, ShutdownRequest

RETRY_SECONDS: Final = 1.0
# After an error in its own work the machine is called again so soon.
PAUSE_SECONDS: Final = 0.1
CRASH_CODE: Final = 99


class Watcher(Component, Outside):
    """The machine's outside. Made from the config file, which must be writable: CannotStart."""

    def __init__(self, server: Server, components: Sequence[Component]) -> None:
        super().__init__(server.engine)
        self._config = server.config
        self._log = server.log
        self._clock = server.clock
        self._pubsub = find_component(components, PubSub)
        # Time that no step of the wall clock changes, but counted like it.
        self._epoch_ms = int(self._clock.wall() * 1000) - self._clock.monotonic_ns() // 1_000_000
        self._last_wall = 0.0
        self._last_tick = 0
        self._planned = 0
        self._sooner = trio.Event()
        # Numbers of the last change, and of the last one that is on disk.
        self._changes = 0
        self._saved = 0
        self._save_wanted = trio.Event()
        self._retry_at = 0
        self.names = Names()
        settings = Settings()
        self.scripts = Scripts(settings, self._tell_of_script)
        random = self.engine.keyspace.random
        self.file = _check_file(server)
        state = State("")
        self.machine = Machine(state, settings, self, random)
        Reader(state, self._resolve_at_start, self.now()).read(self._config.statements("sentinel"))
        self.names.enabled = state.resolve_hostnames
        state.my_id = state.my_id or f"{random.getrandbits(160):040x}"
        state.port = self._config.integer("port")
        state.requirepass = self._config.octets("requirepass").decode("utf-8", "replace")
        self.connections = Connections(server.network, self._log, self.now, self.settle)
        self.connections.serve(self.machine)
        self.connections.source_address = self._config.text("bind-source-addr")
        self.machine.unsaved = True
        try:
            self.save_now()
        except OSError as error:
            raise CannotStart(
                f"Sentinel config file {self.file.path} cannot be rewritten: {error.strerror}. "
                "Exiting..."
            ) from None
        server.hub.barriers.append(self._save_before_replies)
        server.shutdown_hooks.append(self._save_finally)

    @property
    def state(self) -> State:
        return self.machine.state

    def now(self) -> int:
        """The machine's time: Unix milliseconds by the monotonic clock."""
        return self._epoch_ms + self._clock.monotonic_ns() // 1_000_000

    # The file.

    def _resolve_at_start(self, host: str) -> str:
        if is_ip(host):
            return host
        ip = look_up_now(host) if self.state.resolve_hostnames else ""
        if ip:
            self.names.learn(host, ip)
        else:
            self._log.warning(f"Failed to resolve hostname '{host}'")
        return ip

    def save_now(self) -> None:
        """Have all that is known on disk when this returns. Raises OSError."""
        self._hold_unsaved()
        if self._saved == self._changes:
            return
        number = self._changes
        try:
            self.file.save(self.file.draft(self.state), number)
        except OSError as error:
            self._complain(error)
            raise
        self._note_saved(number)

    def _hold_unsaved(self) -> None:
        """What is sent from here on must wait until the file says what the machine knows now."""
        machine = self.machine
        if machine.unsaved:
            machine.unsaved = False
            self._changes += 1
            self.connections.barrier.close(self._changes)
            self._save_wanted.set()

    def _note_saved(self, number: int) -> None:
        if number > self._saved:
            self._saved = number
            self._log.notice("Sentinel new configuration saved on disk")
        self.connections.barrier.open(number)

    def _complain(self, error: OSError) -> None:
        self._retry_at = self.now() + int(RETRY_SECONDS * 1000)
        self._log.warning(
            "WARNING: Sentinel was not able to save the new configuration on disk!!!: "
            f"{error.strerror}"
        )

    def _save_before_replies(self) -> None:
        """A barrier of the hub. Where the disk fails, clients are answered all the same.

        Those answers that must not be given then (votes) have been withheld already.
        """
        self._hold_unsaved()
        if self._saved != self._changes and self.now() >= self._retry_at:
            try:
                self.save_now()
            except OSError:
                return

    def _save_finally(self, request: ShutdownRequest) -> None:
        try:
            self.save_now()
        except OSError:
            return

    async def _save_forever(self) -> None:
        """Write the file in a thread whenever that is wanted."""
        while True:
            await self._save_wanted.wait()
            self._save_wanted = trio.Event()
            if self._saved == self._changes:
                continue
            number = self._changes
            lines = self.file.draft(self.state)
            try:
                await trio.to_thread.run_sync(self.file.save, lines, number)
            except OSError as error:
                self._complain(error)
                await trio.sleep(RETRY_SECONDS)
                self._save_wanted.set()
            else:
                self._note_saved(number)

    # Time.

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(self.connections.run)
            nursery.start_soon(self.names.run)
            nursery.start_soon(self._save_forever)
            self._log.notice(f"Sentinel ID is {self.state.my_id}")
            self.machine.begin(self.now())
            self.settle()
            while True:
                await self._wait_for_deadline()
                try:
                    self.take_turn()
                except Exception:
                    # Its next turn may go better.
                    self.engine.statistics.unexpected += 1
                    self._log.warning(
                        f"Unexpected error in the sentinel:\n{traceback.format_exc()}"
                    )
                    await trio.sleep(PAUSE_SECONDS)

    async def _wait_for_deadline(self) -> None:
        while (left := self.machine.deadline - self.now()) > 0:
            self._planned = self.machine.deadline
            self._sooner = trio.Event()
            with trio.move_on_after(left / 1000):
                await self._sooner.wait()
        await trio.lowlevel.checkpoint()

    def take_turn(self) -> None:
        """The machine's deadline has come: let it work, and the scripts."""
        now = self.now()
        wall = self._clock.wall()
        passed = (wall - self._last_wall) * 1000
        trigger = self.machine.settings.tilt_trigger
        if self._last_tick and now - self._last_tick <= trigger and not 0 <= passed <= trigger:
            self.machine.doubt_time(now)
        self._last_tick = now
        self._last_wall = wall
        self.machine.tick(now)
        self.settle()
        if self._saved == self._changes:
            self.scripts.tick(now)

    def settle(self) -> None:
        """The machine has been told something: see to what it has left to be done."""
        self._hold_unsaved()
        if self.machine.deadline < self._planned:
            self._sooner.set()

    # What the machine wants (Outside).

    def open(self, link: Link, half: Half) -> None:
        self.connections.open(link, half)

    def close(self, link: Link, half: Half) -> None:
        self.connections.close(link, half)

    def send(self, link: Link, request: Request) -> None:
        self._hold_unsaved()
        self.connections.send(link, request)

    def subscribe(self, link: Link, argv: Sequence[bytes]) -> None:
        self.connections.subscribe(link, argv)

    def local_ip(self, link: Link) -> str:
        return self.connections.local_ip(link)

    def resolve(self, host: str) -> str:
        return self.names.resolve(host)

    def tell(self, level: str, event: str, instance: Instance | None, text: str) -> None:
        self._log.write(LEVELS[level], f"{event} {text}")
        if level == "debug":
            return
        self._pubsub.publish(encode(event), encode(text))
        if level == "warning" and instance is not None:
            master = _master_of(instance)
            if master is not None and master.notification_script:
                self.scripts.schedule(master.notification_script, [event, text])

    def _tell_of_script(self, level: str, event: str, text: str) -> None:
        self.tell(level, event, None, text)

    def log(self, level: str, text: str) -> None:
        self._log.write(LEVELS[level], text)

    def run_script(self, path: str, arguments: Sequence[str]) -> None:
        self.scripts.schedule(path, arguments)

    def crash(self) -> None:
        self._log.warning("Sentinel CRASH because of SENTINEL simulate-failure")
        os._exit(CRASH_CODE)


def _master_of(instance: Instance) -> Master | None:
    if isinstance(instance, Master):
        return instance
    if isinstance(instance, Replica | Peer):
        return instance.master
    return None


def _check_file(server: Server) -> ConfigFile:
    """The config file, if there is one that can be written. Raises CannotStart."""
    path = server.config.file
    if not path:
        raise CannotStart("Sentinel needs config file on disk to save state. Exiting...")
    try:
        with Path(path).open("r+b"):
            pass
    except OSError as error:
        raise CannotStart(
            f"Sentinel config file {path} is not writable: {error.strerror}. Exiting..."
        ) from None
    return ConfigFile(server.config, server.files)
