"""The world of replication: a master, its replicas and theirs, clients, and everything that fails.

What must hold after each step is in :mod:`.histories`: the data of each server are a prefix of its
master's history, to the byte. Besides, a WAIT counts only replicas that have the write, and a
WAITAOF only logs that have it for good; what a WAIT has counted survives that the most advanced
replica is promoted, and everything does that a master hands its role over (:mod:`.takeovers`); and
once nothing fails any more, all have the same within a few minutes.
"""

from __future__ import annotations

import random
from functools import partial
from typing import Final, TextIO

import trio

from node.session import Session
from tests.simulation.clients import Writer
from tests.simulation.clockwork import drive, run
from tests.simulation.histories import Histories, Token
from tests.simulation.machine import Machine
from tests.simulation.network import End, Network
from tests.simulation.schedule import Deed, Schedule
from tests.simulation.takeovers import Takeovers
from tests.simulation.timeline import Timeline
from tests.simulation.trace import Broken, Trace
from tests.simulation.writes import Write

MOST_STEPS: Final = 100_000
"""Steps of tasks at the same time that are too many."""
CONVERGENCE: Final = 240.0
"""Seconds after the last fault in which all must have the same."""


class ReplicationWorld:
    """One run, from one seed."""

    def __init__(self, seed: int, trace: Trace, timeline: Timeline) -> None:
        self.seed = seed
        self.trace = trace
        self.timeline = timeline
        self.draw = random.Random(seed)
        self.network = Network(timeline, random.Random(seed + 1))
        self.histories = Histories(self._moved)
        self.takeovers = Takeovers(random.Random(seed + 2), self.histories)
        self.broken: Broken | None = None
        self.machines: list[Machine] = []
        self.writers: list[Writer] = []
        self.faults: Schedule | None = None
        # How often what has happened.
        self.summary: dict[str, int] = {}
        self._waiting: dict[Token, Write] = {}
        self._counted: list[Write] = []
        self._served: dict[str, int] = {}  # the runs that have loaded their data
        self._links: dict[str, int] = {}
        self._sessions: dict[str, Session] = {}
        self._scope = trio.CancelScope()
        self._primary_lost_at = -1.0
        draw = self.draw
        self.timeout = draw.choice([3, 5, 10])
        self._durable = draw.random() < 0.25  # all have a log that is on disk before they reply
        self._common = self._draw_common()
        if draw.random() < 0.3:
            self.network.window = draw.choice([2048, 8192])
        for i in range(draw.choice([2, 3, 3, 4])):
            self._add_machine(f"n{i + 1}")
        self.primary = self.machines[0]
        for machine in self.machines[1:]:
            machine.master = self.primary
        pause = draw.choice([0.02, 0.1, 0.3])
        for i in range(draw.choice([1, 2, 2])):
            self.writers.append(
                Writer(f"c{i + 1}", self.network, random.Random(draw.random()), self, pause)
            )

    def _draw_common(self) -> list[str]:
        draw = self.draw
        words = {
            "hz": 4,
            "repl-timeout": self.timeout,
            "repl-ping-replica-period": draw.choice([1, 3]),
            "repl-backlog-size": draw.choice(["16kb", "16kb", "64kb", "1mb"]),
            "repl-backlog-ttl": draw.choice([3600, 3600, 4]),
            "repl-diskless-sync": draw.choice(["yes", "no"]),
            "repl-diskless-sync-delay": draw.choice([0, 0, 1]),
            "min-replicas-to-write": draw.choice([0, 0, 0, 1]),
            "min-replicas-max-lag": draw.choice([2, 10]),
            "client-output-buffer-limit": draw.choice(
                ["slave 256mb 64mb 60", "slave 256mb 64mb 60", "slave 32kb 24kb 1"]
            ),
        }
        return [part for key, value in words.items() for part in (f"--{key}", *str(value).split())]

    def _add_machine(self, name: str) -> None:
        draw = self.draw
        words = {
            "repl-diskless-load": draw.choice(["disabled", "on-empty-db", "swapdb"]),
            "replica-lazy-flush": draw.choice(["yes", "no"]),
            "key-load-delay": draw.choice([0, 0, 1000, 20000]),
            "appendonly": draw.choice(["no", "no", "yes"]),
            "appendfsync": draw.choice(["always", "everysec", "no"]),
            "rdb-del-sync-files": draw.choice(["no", "no", "yes"]),
            "auto-aof-rewrite-min-size": draw.choice(["64mb", "4kb"]),
        }
        if self._durable:
            words |= {"appendonly": "yes", "appendfsync": "always"}
        save = draw.choice([[""], [""], ["5", "1"]])
        directives = [part for key, value in words.items() for part in (f"--{key}", str(value))]
        machine = Machine(
            name,
            self.timeline,
            self.network,
            random.Random(draw.random()),
            self.trace.note,
            [*self._common, *directives, "--save", *save],
        )
        machine.looked_at = self._look
        self.machines.append(machine)

    # What is checked.

    def check(self) -> None:
        """Look at all machines about which there is something new."""
        for machine in self.machines:
            if machine.server is not None and self.histories.changed(machine):
                self._look(machine)

    def _look(self, machine: Machine) -> None:
        if self.broken is not None:
            return
        try:
            session = machine.link.session
            if session is not None and self._sessions.get(machine.name) is not session:
                self._sessions[machine.name] = session
                self._links[machine.name] = self._links.get(machine.name, 0) + 1
            if machine.ready and self._served.get(machine.name) != machine.run_number:
                self._served[machine.name] = machine.run_number
                self._check_loaded(machine)
            if machine.is_replica:
                machine.durable.clear()
            self.histories.look(machine)
            self.takeovers.look(machine)
            machine.look_for_faults()
            if machine.fault:
                raise Broken(f"{machine.name}: {machine.fault}")
        except AssertionError as error:
            self._break(error)

    def _check_loaded(self, machine: Machine) -> None:
        """The machine has just loaded what is on its disk."""
        if machine.durable:
            self._count("loads of durable writes")
        lost = machine.lost_durable()
        if lost:
            raise Broken(
                f"{machine.name} has lost {lost}, of which it has told clients although it has "
                "appendfsync always"
            )

    def _break(self, error: AssertionError) -> None:
        """Something does not hold: end the run."""
        if self.broken is None:
            self.broken = error if isinstance(error, Broken) else Broken(repr(error))
            if error is not self.broken:
                self.broken.__cause__ = error
            self.trace.note("BROKEN", str(self.broken))
            self._scope.cancel()

    def end_with(self, why: str) -> None:
        """Something is wrong that is not about data."""
        self._break(Broken(why))

    # What clients are told.

    def target(self) -> Machine:
        return self.primary

    def state_of(self, machine: Machine) -> tuple[int, int]:
        """What changes when the machine may lose what it has: it is restarted, or gets all data."""
        return machine.run_number, machine.full_syncs

    def begin_write(self, token: Token, machine: Machine) -> None:
        self._waiting[token] = Write(token, machine, self.machines)

    def _moved(self, machine: Machine) -> None:
        """The machine has more of a history than before, or another one."""
        for token, write in self._waiting.items():
            if machine is not write.machine and self.histories.holds(machine, token):
                write.holders[machine.name] = self.state_of(machine)
                write.links[machine.name, self._links.get(machine.name, 0)] = None

    def written(self, token: Token, machine: Machine) -> None:
        if machine.logs_durably and self._served.get(machine.name) == machine.run_number:
            machine.durable[token] = None

    def end_write(self, token: Token, replicas: int) -> None:
        write = self._waiting.pop(token)
        if replicas <= 0 or not self.histories.knows(token):
            return
        write.counted = replicas
        self._count("waits")
        if replicas > len(write.links):
            self._break(
                Broken(
                    f"WAIT at {write.machine.name} has counted {replicas} replicas that have "
                    f"{token.decode()}, but only these have ever had it: {list(write.links)}"
                )
            )
        self._counted.append(write)

    def end_log_wait(self, token: Token, local: int, replicas: int) -> None:
        write = self._waiting.pop(token)
        if not self.histories.knows(token):
            return
        self._count("waits for logs")
        machine = write.machine
        logs = {each.name for each in self.machines if write.may_be_logged(each)}
        most = sum(name in logs for name, _ in write.links)
        if local > (machine.name in logs) or replicas > most:
            self._break(
                Broken(
                    f"WAITAOF at {machine.name} has answered {local} and {replicas} for "
                    f"{token.decode()}, which may be in the logs of {sorted(logs)} only"
                )
            )
        if local and write.has_era_of(machine) and machine.logs:
            machine.durable[token] = None

    def _check_survivors(self, chosen: Machine, candidates: list[Machine]) -> None:
        """Of all candidates ``chosen`` has most: it has what WAIT has counted at any of them."""
        lineage = self.histories.lineage(chosen)
        for write in self._counted:
            for machine in candidates:
                if (
                    write.holders.get(machine.name) == self.state_of(machine)
                    and self.histories.lineage(machine) is lineage
                    and not self.histories.holds(chosen, write.token)
                ):
                    raise Broken(
                        f"{machine.name} was counted by WAIT for {write.token.decode()}, which is "
                        f"lost although {chosen.name}, which is promoted, says that it has more"
                    )

    def _count(self, what: str, number: int = 1) -> None:
        self.summary[what] = self.summary.get(what, 0) + number

    # The operator.

    async def operate(self) -> None:
        """Restart what has ended, replace a master that is gone, and let all follow the master."""
        draw = self.draw
        while True:
            await trio.sleep(draw.uniform(0.2, 1.5))
            self._notice_takeover()
            if not self.primary.up:
                if self._primary_lost_at < 0:
                    self._primary_lost_at = self.timeline.now
                elif self.timeline.now - self._primary_lost_at > 1:
                    self._fail_over()
            else:
                self._primary_lost_at = -1.0
                for machine in self.machines:
                    if machine.up and machine is not self.primary and machine.master is None:
                        machine.note("is told of the master")
                        machine.follow(self.primary)
                for machine in self.machines:
                    if not machine.obeys:
                        machine.follow(machine.master)

    def _notice_takeover(self) -> None:
        """The master may have handed its role over: the others have to learn it."""
        successor = self.takeovers.successor(self.primary, self.machines)
        if successor is not None:
            self._promote(successor)

    def _fail_over(self) -> None:
        """Promote the replica that has most."""
        candidates = [
            machine for machine in self.machines if machine.has_history and machine.is_replica
        ]
        if not candidates:
            return
        chosen = max(candidates, key=lambda machine: machine.history.offset)
        try:
            self._check_survivors(chosen, candidates)
        except Broken as error:
            self._break(error)
            return
        self._count("failovers")
        self._promote(chosen)

    def _promote(self, chosen: Machine) -> None:
        """Make the machine the master, and let the others learn it, some of them later."""
        chosen.note("is promoted")
        old = self.primary
        self.primary = chosen
        chosen.follow(None)
        for machine in self.machines:
            if machine is chosen:
                continue
            if self.draw.random() < 0.5:
                machine.follow(chosen)
            elif machine is old:
                machine.master = None
            else:
                self.timeline.after(self.draw.uniform(0, 3), partial(self._redirect, machine))

    def _redirect(self, machine: Machine) -> None:
        if machine is not self.primary and machine.ready:
            machine.follow(self.primary)

    # The faults.

    def _deeds(self) -> list[Deed]:
        draw = self.draw
        return [
            ("reset", draw.choice([1, 6]), self._reset),
            ("half-open", 1, self._lose),
            ("stall", draw.choice([1, 4]), self._stall),
            ("lose", 1, self._lose_path),
            ("slow", 1, self._slow),
            ("kill", draw.choice([0, 2]), self._kill),
            ("power", draw.choice([0, 2]), self._cut_power),
            ("power-at", draw.choice([0, 2]), self._cut_power_at),
            ("shutdown", draw.choice([0, 2]), self._shut_down),
            ("kill-child", 0.5, self._kill_child),
            ("save", 2, self._save),
            ("promote", draw.choice([0, 2]), self._replace),
            ("failover", draw.choice([0, 0, 3]), self._hand_over),
            ("re-point", draw.choice([0, 2]), self._repoint),
            ("cut-clients", 1, self._cut_clients),
            ("pause", 0.5, self._pause_clients),
            ("configure", 1, self._configure),
        ]

    def _between_machines(self, end: End) -> bool:
        return end.host[0] == "n" and end.peer.host[0] == "n"

    def _any_end(self, end: End) -> bool:
        return True

    def _reset(self) -> str | None:
        among = self._between_machines if self.draw.random() < 0.8 else self._any_end
        end = self.network.reset_one(among)
        return None if end is None else f"{end.host} - {end.peer.host}"

    def _lose(self) -> str | None:
        end = self.network.lose_one(self._between_machines)
        return None if end is None else f"{end.host} > {end.peer.host}"

    def _pair(self) -> tuple[str, str]:
        one, other = self.draw.sample(self.machines, 2)
        return one.name, other.name

    def _for_a_while(self) -> float:
        return self.draw.choice([0.1, 1, self.timeout, 2 * self.timeout]) * self.draw.random()

    def _stall(self) -> str:
        one, other = self._pair()
        self.network.block(one, other)
        seconds = self._for_a_while()
        self.timeline.after(seconds, lambda: self.network.unblock(one, other))
        return f"{one} - {other} for {seconds:.2f} s"

    def _lose_path(self) -> str:
        one, other = self._pair()
        self.network.path(one, other).losing = True
        seconds = self._for_a_while()
        self.timeline.after(seconds, lambda: self.network.unblock(one, other))
        return f"{one} - {other} for {seconds:.2f} s"

    def _slow(self) -> str:
        one, other = self._pair()
        path = self.network.path(one, other)
        path.shortest, path.longest = self.draw.choice([(0.0001, 0.0002), (0.01, 0.3), (0.2, 2.0)])
        return f"{one} - {other} {path.longest} s"

    def _some_machine(self) -> Machine | None:
        running = [machine for machine in self.machines if machine.up]
        return self.draw.choice(running) if running else None

    def _restart_later(self, machine: Machine) -> None:
        self.timeline.after(self.draw.choice([0.05, 2, 12]) * self.draw.random(), machine.start)

    def _kill(self) -> str | None:
        machine = self._some_machine()
        if machine is None:
            return None
        machine.crash(power=False)
        self._restart_later(machine)
        return machine.name

    def _cut_power(self) -> str | None:
        machine = self._some_machine()
        if machine is None:
            return None
        machine.crash(power=True)
        self._restart_later(machine)
        return machine.name

    def _cut_power_at(self) -> str | None:
        machine = self._some_machine()
        if machine is None:
            return None
        machine.crash_at(self.draw.randrange(1, 30), self._restart_later)
        return machine.name

    def _shut_down(self) -> str | None:
        machine = self._some_machine()
        if machine is None or not machine.ready:
            return None
        word = self.draw.choice(["SAVE", "SAVE", "NOSAVE"])
        machine.shut_down(word)
        self._restart_later(machine)
        return f"{machine.name} {word}"

    def _kill_child(self) -> str | None:
        machine = self._some_machine()
        if machine is None or machine.child.playback is None:
            return None
        machine.kill_child()
        return machine.name

    def _save(self) -> str | None:
        machine = self._some_machine()
        if machine is None or not machine.ready:
            return None
        words = self.draw.choice([("BGSAVE",), ("BGSAVE",), ("BGREWRITEAOF",), ("SAVE",)])
        machine.command(*words)
        return f"{machine.name} {words[0]}"

    def _replace(self) -> str | None:
        """Promote any replica, although the master is there."""
        candidates = [machine for machine in self.machines if machine.has_history]
        candidates = [machine for machine in candidates if machine is not self.primary]
        if not candidates:
            return None
        chosen = self.draw.choice(candidates)
        self._promote(chosen)
        return chosen.name

    def _hand_over(self) -> str | None:
        return self.takeovers.ask(self.primary, self.machines)

    def _repoint(self) -> str | None:
        """Let a replica get its data from another machine."""
        machine = self._some_machine()
        if machine is None or machine is self.primary or not machine.ready:
            return None
        other = self.draw.choice([other for other in self.machines if other is not machine])
        machine.follow(other)
        return f"{machine.name} to {other.name}"

    def _cut_clients(self) -> str | None:
        machine = self._some_machine()
        if machine is None:
            return None
        kind = self.draw.choice(["replica", "master", "normal"])
        machine.command("CLIENT", "KILL", "TYPE", kind)
        return f"{kind} of {machine.name}"

    def _pause_clients(self) -> str | None:
        machine = self._some_machine()
        if machine is None or not machine.ready:
            return None
        milliseconds = self.draw.choice([100, 1000, 5000])
        kind = self.draw.choice(["WRITE", "ALL"])
        machine.command("CLIENT", "PAUSE", str(milliseconds), kind)
        return f"{machine.name} {milliseconds} {kind}"

    def _configure(self) -> str | None:
        machine = self._some_machine()
        if machine is None or not machine.ready:
            return None
        draw = self.draw
        words = draw.choice(
            [
                ("repl-backlog-size", draw.choice(["16kb", "32kb", "1mb"])),
                ("repl-diskless-load", draw.choice(["disabled", "on-empty-db", "swapdb"])),
                ("repl-diskless-sync", draw.choice(["yes", "no"])),
                ("appendonly", draw.choice(["yes", "no"])),
                ("repl-timeout", str(draw.choice([3, 5, 10]))),
            ]
        )
        machine.command("CONFIG", "SET", *words)
        return f"{machine.name} {' '.join(words)}"

    # The run.

    async def run(self) -> None:
        """Let everything go wrong, then nothing, and see whether all is well. Raises Broken."""
        trio.lowlevel.add_instrument(_Watch(self))
        with trio.CancelScope() as self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(drive, self.timeline)
                for machine in self.machines:
                    nursery.start_soon(machine.live)
                    machine.start()
                for writer in self.writers:
                    nursery.start_soon(writer.run)
                nursery.start_soon(self._direct)
                await trio.sleep_forever()
        if self.broken is not None:
            raise self.broken

    async def _direct(self) -> None:
        draw = self.draw
        await trio.sleep(draw.choice([0, 1, 3]))
        self.faults = Schedule(
            self.timeline,
            random.Random(draw.random()),
            self._deeds(),
            draw.choice([0.2, 0.5, 1.5]),
            lambda text: self.trace.note("fault", text),
        )
        with trio.move_on_after(draw.choice([4, 8, 16]) * draw.uniform(0.5, 1)):
            await self.operate()
        self.faults.stop()
        await self._converge()
        self._scope.cancel()

    async def _converge(self) -> None:
        """Nothing fails any more: all get what the master has. Raises Broken."""
        self.trace.note("fault", "none any more")
        for writer in self.writers:
            writer.stop()
        self.network.heal()
        for machine in self.machines:
            machine.be_spared()
            if not machine.up:
                machine.start()
        limit = self.timeline.now + CONVERGENCE
        while not self._settle():
            await trio.sleep(0.1)
            if self.timeline.now > limit:
                self._break(Broken(f"no equality {CONVERGENCE:.0f} s after the last fault"))
                return
        for machine in self.machines:
            masters = machine.replication.masters
            self._count("full syncs", masters.full_syncs)
            self._count("partial syncs", masters.partial_syncs)
        self._count("takeovers", self.takeovers.seen)
        took = CONVERGENCE - (limit - self.timeline.now)
        self.trace.note("world", f"all have the same, after {took:.1f} s")

    def _settle(self) -> bool:
        """Let who has another master follow the right one; whether all have the same."""
        if not all(machine.ready for machine in self.machines):
            for machine in self.machines:
                if not machine.up:
                    machine.start()
            return False
        self._notice_takeover()
        for machine in self.machines:
            wanted = None if machine is self.primary else self.primary
            if machine.master is not wanted or not machine.obeys:
                machine.follow(wanted)
        return all(
            machine.has_history
            and machine.history.id == self.primary.history.id
            and machine.history.offset == self.primary.history.offset
            and (machine is self.primary or machine.link.connected)
            for machine in self.machines
        )


class _Watch(trio.abc.Instrument):
    """Checks the world after each step of each task."""

    def __init__(self, world: ReplicationWorld) -> None:
        self._world = world
        self._since = -1.0
        self._steps = 0

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        now = trio.current_time()
        self._steps = self._steps + 1 if now == self._since else 0
        self._since = now
        self._world.check()
        if self._steps == MOST_STEPS:
            self._world.end_with(f"time stands still, while {task.name} runs")


def run_replication(seed: int, echo: TextIO | None = None) -> tuple[Trace, dict[str, int]]:
    """One run; its trace, and how often what happened in it. Raises Broken."""
    timeline = Timeline()
    trace = Trace(timeline, echo)

    async def main() -> dict[str, int]:
        world = ReplicationWorld(seed, trace, timeline)
        await world.run()
        summary = dict(world.summary)
        summary["steps checked"] = world.histories.checks
        summary["replies"] = sum(writer.replies for writer in world.writers)
        if world.faults is not None:
            summary.update(world.faults.counts)
        return summary

    return trace, run(main, seed)
