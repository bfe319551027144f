"""A host with a disk, on which a node of ours runs, ends, fails and is started again."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import signal
from collections.abc import Callable, Sequence
from typing import Final

import trio

from node.clock import Clock
from node.composition import compose
from node.config import make_config
from node.engine import Engine
from node.keyspace import Keyspace
from node.log import NOTICE, WARNING, Log
from node.persistence.aof import ON, AppendOnlyFile
from node.persistence.aof_writer import ALWAYS
from node.persistence.child import Child, Exit
from node.replication.history import History
from node.replication.link import Link
from node.replication.replication import Replication
from node.server import LoadFailed, Server, ShutdownRefused, ShutdownRequest
from node.session import Session
from tests.inprocess import LocalClient
from tests.simulation.disk import Disk, DiskFiles, PowerCut, Step
from tests.simulation.model import read_lists
from tests.simulation.network import Network
from tests.simulation.sockets import HostNetwork
from tests.simulation.timeline import Planned, Timeline
from tests.wire import Closed, Error

PORT: Final = 6379
EPOCH: Final = 1_700_000_000.0
POLL_NS: Final = 20_000


class VirtualClock(Clock):
    """The time of the trio loop; the wall clock is ``skew`` seconds off.

    A process that only looks whether there is something to do spends time all the same.
    """

    def __init__(self, skew: float) -> None:
        self._start = EPOCH + skew
        self._ns = 0

    def wall(self) -> float:
        return self._start + trio.current_time()

    def monotonic_ns(self) -> int:
        self._ns = max(self._ns, 1_000_000_000 + round(trio.current_time() * 1e9))
        return self._ns

    def spend(self) -> None:
        """A moment has passed, although it is the same time for all others."""
        self._ns += POLL_NS


class TracedLog(Log):
    """What the node logs goes into the trace."""

    __slots__ = ("_note",)

    def __init__(self, clock: Clock, note: Callable[[str], None]) -> None:
        super().__init__(clock)
        self._note = note

    def write(self, level: int, message: str) -> None:
        if level >= NOTICE:
            self._note(("# " if level >= WARNING else "") + message.replace(str(os.getpid()), "_"))


class Playback:
    """A forked child, whose steps take their time. ``code`` is how it ended, once it has."""

    def __init__(
        self,
        timeline: Timeline,
        draw: random.Random,
        files: DiskFiles,
        steps: list[Step],
        code: int,
        pace: float,
    ) -> None:
        self.ended = False
        self.code = code
        self.signal = 0
        self._timeline = timeline
        self._draw = draw
        self._files = files
        self._steps = steps
        self._at = 0
        self._pace = pace
        self._planned: Planned | None = None
        self._plan()

    def _plan(self) -> None:
        delay = self._draw.expovariate(1 / self._pace)
        self._planned = self._timeline.after(delay, self._play)

    def _play(self) -> None:
        if self._at < len(self._steps):
            try:
                done = self._steps[self._at]()
            except OSError:
                self._finish(1)
                return
            if done:
                self._at += 1
            self._plan()
        else:
            self._finish(self.code)

    def _finish(self, code: int) -> None:
        self.code = code
        self.ended = True
        self._files.release_pipes()

    def stop(self, number: int) -> None:
        """End it by a signal, unless it has ended."""
        if not self.ended:
            assert self._planned is not None
            self._planned.cancel()
            self.signal = number
            self._finish(0)


class SimulatedChild(Child):
    """A child of which the work is done at the fork, and has its effect bit by bit."""

    def __init__(self, server: Server, machine: Machine) -> None:
        super().__init__(server)
        self._machine = machine
        self.playback: Playback | None = None

    def check_parent(self) -> None:
        """There is one process: a machine that is killed takes its child with it."""

    def start(
        self,
        kind: str,
        work: Callable[[], None],
        done: Callable[[Exit], None],
        total: int = 0,
    ) -> int:
        assert not self.pid
        machine = self._machine
        draw = machine.draw
        if draw.random() < 0.01:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        files = machine.files
        steps, code = files.record(work)
        pace = draw.choice([0.0001, 0.001, 0.02])
        self.playback = Playback(machine.timeline, draw, files, steps, code, pace)
        self.kind = kind
        self.pid = os.getpid()  # as in the names of its files
        self.total = total
        self.forks += 1
        self._started_ns = self.told_ns = self._clock.monotonic_ns()
        self._done = done
        return self.pid

    def kill(self) -> None:
        if self.playback is not None:
            self.playback.stop(signal.SIGUSR1)
            self._reap_playback()

    def tick(self, now_ns: int) -> None:
        if self.playback is not None and self.playback.ended:
            self._reap_playback()

    def _reap_playback(self) -> None:
        playback = self.playback
        assert playback is not None
        end = Exit(self.pid, playback.code, playback.signal, 0, self.seconds)
        done = self._done
        self.playback = None
        self.kind = ""
        self.pid = 0
        self.processed = 0
        self.total = 0
        done(end)

    def report(self, processed: int) -> None:
        self.processed = processed


class Machine:
    """One host. While a node runs on it, ``server`` is that and ``run`` counts which one it is.

    ``master`` is where the operator wants it to get its data from, None if it is to be a master.
    ``looked_at`` is called when the history may be another one from here on; what it finds is to
    be raised elsewhere.
    """

    def __init__(
        self,
        name: str,
        timeline: Timeline,
        network: Network,
        draw: random.Random,
        note: Callable[[str, str], None],
        directives: Sequence[str],
    ) -> None:
        self.name = name
        self.timeline = timeline
        self.draw = draw
        self.directives = list(directives)
        self.disk = Disk(draw)
        self.network = network
        self.server: Server | None = None
        self.run_number = 0
        self.full_syncs = 0  # that its nodes have begun to get
        self.takeovers = 0  # of a master's role that the master has asked its nodes for
        self.master: Machine | None = None
        self.fault = ""  # of the node, which must never have one
        # Elements of lists that must be there when the node starts again, as far as they were when
        # it ended: those that are on disk, as clients have been told.
        self.durable: dict[bytes, None] = {}
        self.log_file: AppendOnlyFile
        self.looked_at: Callable[[Machine], None] = _do_nothing
        self.replication: Replication
        self.link: Link
        self.child: SimulatedChild
        self.files: DiskFiles
        self.keyspace: Keyspace
        self._note = note
        self._skew = draw.uniform(-0.5, 0.5)
        self._wanted = trio.Event()
        self._scope = trio.CancelScope()
        self._cut_after = 0
        self._afterwards: Callable[[Machine], None] = _do_nothing

    # What it is.

    @property
    def up(self) -> bool:
        """Whether a node runs on it."""
        return self.server is not None

    @property
    def ready(self) -> bool:
        """Whether the node has its data, or is getting its master's."""
        return self.server is not None and not self.server.loading

    @property
    def engine(self) -> Engine:
        """The node's."""
        assert self.server is not None
        return self.server.engine

    @property
    def history(self) -> History:
        """The node's."""
        return self.replication.history

    @property
    def is_replica(self) -> bool:
        """Whether the node has a master."""
        return self.replication.is_replica

    @property
    def has_history(self) -> bool:
        """Whether the node's data are a part of a history, and which is told."""
        if self.server is None or self.server.loading or self.history.backlog is None:
            return False
        return not self.is_replica or self.link.connected or self.link.resumable

    @property
    def server_loading(self) -> bool:
        """Whether the node has not all of its data."""
        return self.server is not None and self.server.loading

    @property
    def logs(self) -> bool:
        """Whether it is a master with a log that a restart will load."""
        at = self.directives.index("--appendonly") if "--appendonly" in self.directives else -1
        return (
            self.ready
            and at >= 0
            and self.directives[at + 1] == "yes"
            and not self.is_replica
            and self.log_file.state == ON
        )

    @property
    def logs_durably(self) -> bool:
        """Whether what clients are told of is on disk, in a log that a restart will load.

        So it is at a master with ``appendfsync always`` that is started with a log.
        """
        return self.logs and self.log_file.writer.policy == ALWAYS

    @property
    def era(self) -> tuple[object, ...]:
        """What changes when something else than before may come of what is in the log."""
        if self.server is None:
            return (self.run_number,)
        return self.run_number, self.full_syncs, self.child.forks, self.log_file.state

    def keeps(self, word: bytes) -> bool:
        """Whether it is on disk for good, in a log."""
        return any(word in file.flushed for name, file in self.disk.names.items() if ".aof" in name)

    def lost_durable(self) -> list[bytes]:
        """The node has just loaded its data: what is not there of ``durable``, which is cleared."""
        there = set(read_lists(self.keyspace)) if self.durable else set()
        lost = [word for word in self.durable if word not in there]
        self.durable = {}
        return lost

    @property
    def obeys(self) -> bool:
        """Whether the node is what its operator wants, if there is one."""
        if self.server is None:
            return True
        if self.master is None:
            return not self.is_replica
        return self.is_replica and self.link.host == self.master.name

    def note(self, what: str) -> None:
        """Write a line of the trace."""
        self._note(self.name, what)

    def _hear_log(self, message: str) -> None:
        if message.startswith("Full resync from master"):
            self.full_syncs += 1  # it may be over within the same step
        elif message.startswith("MASTER MODE enabled (failover request"):
            self.takeovers += 1
        self.note(message)

    # What is done to it.

    def start(self) -> None:
        """Let a node run."""
        self._wanted.set()

    def command(self, *words: str) -> object:
        """The reply of the node to its operator; None if it has ended instead."""
        assert self.server is not None
        self.engine.refresh()
        client = LocalClient(self.engine)
        try:
            return client(*words)
        except (PowerCut, Closed):
            return None
        finally:
            client.close()

    def follow(self, master: Machine | None) -> None:
        """Make the node a replica of another one, or a master.

        If it waits for one to take over from it, which may be for ever, it does so no more, and
        follows when it is told again.
        """
        self.master = master
        if self.server is None:
            return
        words = ("NO", "ONE") if master is None else (master.name, str(PORT))
        reply = self.command("REPLICAOF", *words)
        if isinstance(reply, Error):
            self.note(f"refuses to follow another: {reply.text.decode()}")
            self.command("FAILOVER", "ABORT")

    def crash(self, *, power: bool) -> None:
        """The node's process ends now, or (``power``) the whole host."""
        if self.server is None:
            return
        self.note("power fails" if power else "killed")
        self._fall(power=power)
        self._scope.cancel()

    def crash_at(self, count: int, afterwards: Callable[[Machine], None]) -> None:
        """Let the power fail before the count-th change of the disk from now on."""
        self._cut_after = count
        self._afterwards = afterwards

    def be_spared(self) -> None:
        """Let nothing fail that has not failed yet."""
        self._cut_after = 0

    def shut_down(self, word: str) -> None:
        """SHUTDOWN, with SAVE or NOSAVE."""
        assert self.server is not None
        self.note(f"is shut down: {word}")
        with contextlib.suppress(ShutdownRefused, PowerCut):
            self.server.shut_down(ShutdownRequest((word.lower(), "now", "force")))

    def kill_child(self) -> None:
        """The system ends the child, if there is one."""
        if self.child.playback is not None:
            self.child.playback.stop(signal.SIGKILL)

    def _trouble(self) -> None:
        if self._cut_after > 0:
            self._cut_after -= 1
            if self._cut_after == 0:
                self.note("power fails in the middle of a step")
                self._fall(power=True)
                self._scope.cancel()
                self._afterwards(self)
                raise PowerCut

    def _fall(self, *, power: bool) -> None:
        """The process is gone, whatever its tasks may still do."""
        if self.durable and self.logs and not self.server_loading:
            there = set(read_lists(self.keyspace))
            self.durable = {word: None for word in self.durable if word in there}
        else:
            self.durable = {}
        self.files.abandon()
        playback = self.child.playback
        if playback is not None:
            playback.stop(signal.SIGKILL)
        listener = self.network.listeners.get((self.name, PORT))
        if listener is not None:
            listener.close()
        for end in self.network.ends_of(self.name):
            if power:
                end.vanish()
            else:
                end.abort()
        if power:
            self.network.silence(self.name, True)
            self.disk.fail_power()
        self.server = None
        self._cut_after = 0

    # Its life.

    async def live(self) -> None:
        """Run one node after the other."""
        while True:
            await self._wanted.wait()
            self._wanted = trio.Event()
            self.network.silence(self.name, False)
            with trio.CancelScope() as self._scope:
                await self._run()

    def _compose(self) -> Server:
        self.run_number += 1
        config = make_config()
        words = ["--port", str(PORT), "--bind", self.name, "--protected-mode", "no"]
        words += self.directives
        if self.master is not None:
            words += ["--replicaof", self.master.name, str(PORT)]
        config.read_options([word.encode() for word in words])
        clock = VirtualClock(self._skew)
        self.files = DiskFiles(self.disk, config.text("dir"), self.draw)
        self.files.trouble = self._trouble
        server = compose(
            config,
            TracedLog(clock, self._hear_log),
            clock,
            HostNetwork(self.network, self.name, self.draw, clock.spend),
            files=self.files,
            make_child=self._make_child,
        )
        engine = server.engine
        self.keyspace = engine.keyspace
        engine.keyspace.random.seed(self.draw.getrandbits(64))
        for part in engine.components:
            if isinstance(part, Replication):
                self.replication = part
            elif isinstance(part, AppendOnlyFile):
                self.log_file = part
                part.end = self._end
        assert isinstance(self.replication.link, Link)
        self.link = self.replication.link
        self.history.begin_anew()  # with an id that the seed decides
        engine.add_observer(self._observe)
        return server

    def _make_child(self, server: Server) -> Child:
        self.child = SimulatedChild(server, self)
        return self.child

    def _end(self, code: int) -> None:
        """The node ends itself at once."""
        if self.server is not None:
            self.note(f"ends with {code}")
            self._fall(power=False)
            self._scope.cancel()
        raise PowerCut

    def _observe(self, session: Session, command: object, argv: list[bytes]) -> None:
        if argv[0].lower() in (b"psync", b"sync", b"replicaof") and not session.from_master:
            self.looked_at(self)

    async def _run(self) -> None:
        server = self.server = self._compose()
        self.note(f"starts, run {self.run_number}")
        try:
            await server.run()
        except* PowerCut:
            pass
        except* LoadFailed:
            if self.server is server:
                self.fault = "the data cannot be loaded"
        except* OSError:
            if self.server is server:
                raise
        finally:
            self._look_for_faults(server)
            if self.server is server:
                self.note("has ended")
                self._fall(power=False)

    def _look_for_faults(self, server: Server) -> None:
        if server.engine.statistics.unexpected and not self.files.gone:
            self.fault = "the node has run into an unexpected error: see its log"

    def look_for_faults(self) -> None:
        """Notice that the node has run into something that nobody has thought of."""
        if self.server is not None:
            self._look_for_faults(self.server)


def _do_nothing(machine: Machine) -> None:
    return None
