"""LATENCY: events that held the server up, and how long commands take.

The *monitor* keeps, for each class of event, the spikes of at least ``latency-monitor-threshold``
milliseconds: 160 samples, at most one a second (the worst of it). Behaviour after Redis's
latency.c. The *histograms* are those of the commands (:class:`node.command.Command`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from node.command import FAST, Command, Group
from node.commands.arguments import help_reply
from node.component import Component
from node.metrics import distribution
from node.resp import Map, Reply, ReplyError, Verbatim
from node.session import Session
from node.sparkline import draw

if TYPE_CHECKING:
    from node.server import Server

GROUP: Final = Group("server")
GROUP.container("latency", since="2.8.13", summary="Holds the commands about latency.")

SAMPLES: Final = 160
ADMIN: Final = "admin noscript loading stale"
TIPS: Final = (
    "nondeterministic_output",
    "request_policy:all_nodes",
    "response_policy:special",
)

HELP: Final = (
    "DOCTOR",
    "    Report what has been slow, and what may be done about it.",
    "GRAPH <event>",
    "    Draw the samples of a class of events.",
    "HISTORY <event>",
    "    List the samples of a class of events: time, milliseconds.",
    "LATEST",
    "    List the classes of events: the time of the last one, its milliseconds, the worst.",
    "RESET [<event> ...]",
    "    Forget the samples of some classes of events, or of all.",
    "HISTOGRAM [COMMAND ...]",
    "    Tell how many calls of some commands, or all, took how long.",
)

ADVICE: Final[dict[bytes, str]] = {
    b"command": (
        "Look into SLOWLOG for the commands that take long. O(n) commands on large values are the "
        "usual cause: read them in parts (SCAN, HSCAN, SSCAN, ZSCAN, LRANGE of a part)."
    ),
    b"fast-command": (
        "Even commands of constant time were slow, so the process itself was held up: look for "
        "others that take its processor, for swapping (INFO memory, /proc/<pid>/smaps), for a host "
        "that gives the virtual machine too little time."
    ),
    b"expire-cycle": (
        "Many keys expire at the same time. Spread their expiry, or lower active-expire-effort."
    ),
    b"eviction-cycle": (
        "Keys have to go because of maxmemory. Raise it, or lower maxmemory-eviction-tenacity."
    ),
}


class Event:
    """The samples of one class of events, oldest first: (Unix seconds, milliseconds)."""

    __slots__ = ("samples", "worst")

    def __init__(self) -> None:
        self.samples: deque[tuple[int, int]] = deque(maxlen=SAMPLES)
        self.worst = 0

    def add(self, now: int, milliseconds: int) -> None:
        """One more spike; of those within a second only the worst is kept."""
        self.worst = max(self.worst, milliseconds)
        if self.samples and self.samples[-1][0] == now:
            milliseconds = max(milliseconds, self.samples[-1][1])
            self.samples.pop()
        self.samples.append((now, milliseconds))


class Latency(Component):
    """The monitor and its command."""

    def __init__(self, server: Server) -> None:
        super().__init__(server.engine)
        self._config = server.config
        self.events: dict[bytes, Event] = {}
        self._threshold = 0
        server.engine.report_stall = self.add
        server.config.on_change("latency-monitor-threshold", self._configure)
        self._configure()

    def _configure(self) -> None:
        self._threshold = self._config.integer("latency-monitor-threshold")
        self.engine.observe_slow(
            self._add_command, self._threshold * 1_000_000 if self._threshold else None
        )

    def groups(self) -> Sequence[Group]:
        return (GROUP,)

    def _add_command(
        self, session: Session, command: Command, argv: list[bytes], taken: int
    ) -> None:
        self.add(b"fast-command" if command.flags & FAST else b"command", taken)

    def add(self, name: bytes, taken: int) -> None:
        """An event of the class ``name`` took so many nanoseconds."""
        milliseconds = taken // 1_000_000
        if self._threshold and milliseconds >= self._threshold:
            event = self.events.setdefault(name, Event())
            event.add(int(self.engine.clock.wall()), milliseconds)

    @GROUP.command(
        "latency|latest",
        2,
        ADMIN,
        since="2.8.13",
        complexity="O(1)",
        summary="Lists the last spike of each class of events.",
        tips=TIPS,
    )
    def latest(self, ctx: Session, argv: list[bytes]) -> Reply:
        """Name, time and duration of the last spike, duration of the worst."""
        return [[name, *event.samples[-1], event.worst] for name, event in self.events.items()]

    @GROUP.command(
        "latency|history",
        3,
        ADMIN,
        since="2.8.13",
        complexity="O(1)",
        summary="Lists the spikes of a class of events.",
        syntax="event",
        tips=TIPS,
    )
    def history(self, ctx: Session, argv: list[bytes]) -> Reply:
        """Pairs of time and duration, oldest first."""
        event = self.events.get(argv[2])
        return [] if event is None else [list(sample) for sample in event.samples]

    @GROUP.command(
        "latency|reset",
        -2,
        ADMIN,
        since="2.8.13",
        complexity="O(1)",
        summary="Forgets spikes.",
        syntax="[event [event ...]]",
        tips=["request_policy:all_nodes", "response_policy:all_succeeded"],
    )
    def reset(self, ctx: Session, argv: list[bytes]) -> Reply:
        """The number of classes of events that there was something to forget of."""
        if len(argv) == 2:
            count = len(self.events)
            self.events.clear()
            return count
        return sum(1 for name in argv[2:] if self.events.pop(name, None) is not None)

    @GROUP.command(
        "latency|graph",
        3,
        ADMIN,
        since="2.8.13",
        complexity="O(1)",
        summary="Draws the spikes of a class of events.",
        syntax="event",
        tips=TIPS,
    )
    def graph(self, ctx: Session, argv: list[bytes]) -> Reply:
        """The samples as columns, each with its age below."""
        event = self.events.get(argv[2])
        if event is None:
            name = argv[2].partition(b"\0")[0]
            raise ReplyError(b"ERR No samples available for event '%b'" % name)
        now = int(self.engine.clock.wall())
        values = [milliseconds for _, milliseconds in event.samples]
        ages = [format_age(now - time) for time, _ in event.samples]
        head = (
            f"{argv[2].decode(errors='replace')} - high {max(values)} ms, low {min(values)} ms "
            f"(all time high {event.worst} ms)\n{'-' * 80}\n"
        )
        return Verbatim((head + draw(values, ages)).encode())

    @GROUP.command(
        "latency|doctor",
        2,
        ADMIN,
        since="2.8.13",
        complexity="O(1)",
        summary="Reports what has been slow, and gives advice.",
        tips=TIPS,
    )
    def doctor(self, ctx: Session, argv: list[bytes]) -> Reply:
        """Text for people."""
        if not self._threshold and not self.events:
            return Verbatim(
                b"Latency is not being monitored. To have spikes recorded that take 100 "
                b"milliseconds or more: CONFIG SET latency-monitor-threshold 100.\n"
            )
        if not self.events:
            return Verbatim(
                b"No spike of %d milliseconds or more has been seen so far.\n" % self._threshold
            )
        lines = ["Spikes seen so far:", ""]
        lines += [describe(name, event) for name, event in self.events.items()]
        lines.append("")
        logged_from = self._config.integer("slowlog-log-slower-than")
        if logged_from < 0 or logged_from > self._threshold * 1000 > 0:
            lines.append(
                "- SLOWLOG misses commands that are seen here. To have them logged: "
                f"CONFIG SET slowlog-log-slower-than {self._threshold * 1000}."
            )
        lines += [f"- {ADVICE[name]}" for name in self.events if name in ADVICE]
        return Verbatim("".join(f"{line}\n" for line in lines).encode())

    @GROUP.command(
        "latency|histogram",
        -2,
        ADMIN,
        since="7.0.0",
        complexity="O(N), N being the number of commands that are told of",
        summary="Tells how many calls of commands took how long.",
        syntax="[command [command ...]]",
        tips=TIPS,
    )
    def histogram(self, ctx: Session, argv: list[bytes]) -> Reply:
        """A map from commands that were called to their calls and cumulative distribution."""
        items: list[Reply] = []
        if self._config.boolean("latency-tracking"):
            for command in self._wanted(argv[2:]):
                calls = command.calls
                if calls:
                    pairs: list[Reply] = []
                    for bound, count in distribution(command.histogram):
                        pairs += (bound, count)
                    items += (
                        command.name,
                        Map([b"calls", calls, b"histogram_usec", Map(pairs)]),
                    )
        return Map(items)

    def _wanted(self, names: Sequence[bytes]) -> Sequence[Command]:
        """The named commands with their subcommands; all for no name."""
        if not names:
            return list(self.engine.all_commands())
        found: list[Command] = []
        for name in names:
            container, bar, subcommand = name.lower().partition(b"|")
            command = self.engine.commands.get(container)
            if command is None:
                continue
            subcommands = command.subcommands or {}
            if bar:
                if subcommand in subcommands:
                    found.append(subcommands[subcommand])
            else:
                found += (command, *subcommands.values())
        return found

    @GROUP.command(
        "latency|help",
        2,
        "loading stale",
        since="2.8.13",
        complexity="O(1)",
        summary="Lists the subcommands of LATENCY.",
    )
    def help(self, ctx: Session, argv: list[bytes]) -> Reply:
        """The lines above."""
        return help_reply("latency", HELP)


def describe(name: bytes, event: Event) -> str:
    """A line about a class of events: how many spikes, how long, how often."""
    times = [time for time, _ in event.samples]
    values = [milliseconds for _, milliseconds in event.samples]
    count = len(values)
    mean = sum(values) / count
    deviation = sum(abs(value - mean) for value in values) / count
    text = (
        f"{name.decode(errors='replace')}: {count} spike{'s' if count > 1 else ''}, "
        f"{mean:.0f} ms on average (mean deviation {deviation:.0f} ms)"
    )
    if count > 1:
        text += f", one in {(times[-1] - times[0]) / (count - 1):.1f} s"
    return f"{text}. The worst of all time took {event.worst} ms."


def format_age(seconds: int) -> str:
    """Seconds in the largest unit of which there is at least one: 59s, 3m, 2h, 10d."""
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m"
    if seconds < 86400:
        return f"{seconds // 3600}h"
    return f"{seconds // 86400}d"
