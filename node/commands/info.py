"""INFO, and the sections of it that are about the node as such.

Fields, their names and formats are those of Redis 7.2 (``genRedisInfoString`` in server.c), as far
as they have a meaning here. Components add the fields of what they bring.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from node.command import Command, Group
from node.component import Component
from node.hub import Statistics
from node.information import Fields, Section, render
from node.metrics import PERIOD_NS, Rate, percentile
from node.resp import Reply, Verbatim
from node.session import Session
from node.usage import CpuTimes
from node.version import REDIS_VERSION, SENTRIO_VERSION

if TYPE_CHECKING:
    from node.server import Server

GROUP: Final = Group("server")


class Information(Component):
    """The INFO command, the core's sections, and what has to be sampled for them."""

    def __init__(self, server: Server) -> None:
        super().__init__(server.engine)
        self._server = server
        self._config = server.config
        self._hub = server.hub
        # 40 hexadecimal digits that tell one run of a server from the next.
        self.run_id = _random_id(server)
        self.mode = "standalone"
        self.cluster_enabled = False
        # The sections that a sentinel offers (lower case); None: all that components bring.
        self.offered: frozenset[str] | None = None
        self.count_cluster_links: Callable[[], int] = int
        self._processed = 0
        self._executed = True  # anything since that was counted
        self._commands = Rate()
        self._input = Rate()
        self._output = Rate()
        self._sampled_ns = 0

    def groups(self) -> Sequence[Group]:
        return (GROUP,)

    def sections(self) -> Sequence[Section]:
        return (
            Section("Server", self._collect_server),
            Section("Clients", self._collect_clients),
            Section("Stats", self._collect_stats),
            Section("CPU", self._collect_cpu),
            Section("Modules", list),
            Section("Commandstats", self._collect_commands, default=False),
            Section("Errorstats", self._collect_errors),
            Section("Latencystats", self._collect_latencies, default=False),
            Section("Cluster", self._collect_cluster),
            Section("Keyspace", self._collect_keyspace),
        )

    def tick(self, now_ns: int) -> None:
        self._executed = self._executed or not self._server.quiet
        # The work is a little early at times.
        if now_ns - self._sampled_ns < PERIOD_NS * 9 // 10:
            return
        self._sampled_ns = now_ns
        traffic = self._hub.statistics
        if self._executed:
            self._executed = False
            self._processed = self.engine.processed  # adds up hundreds of counters
        self._commands.sample(self._processed, now_ns)
        self._input.sample(traffic.input, now_ns)
        self._output.sample(traffic.output, now_ns)

    def reset_statistics(self) -> None:
        self._hub.statistics = Statistics()
        self._commands = Rate()
        self._input = Rate()
        self._output = Rate()

    @GROUP.command(
        "info",
        -1,
        "loading stale",
        categories="dangerous",
        since="1.0.0",
        complexity="O(1)",
        summary="Reports on the server, in sections.",
        syntax="[section [section ...]]",
        history=[("7.0.0", "Takes several sections.")],
        tips=[
            "nondeterministic_output",
            "request_policy:all_shards",
            "response_policy:special",
        ],
    )
    def info(self, ctx: Session, argv: list[bytes]) -> Reply:
        """The text; a section that does not exist is left out."""
        wanted = [name.lower().decode("latin-1") for name in argv[1:]]
        if "module_list" in wanted:
            wanted.append("modules")
        text = self.render(wanted)
        # A sentinel of Redis answers with plain bulk strings.
        return Verbatim(text) if self.offered is None else text

    def render(self, wanted: Sequence[str]) -> bytes:
        """The text of INFO for the named sections (lower case)."""
        sections = [
            section for component in self.engine.components for section in component.sections()
        ]
        if self.offered is not None:
            sections = [section for section in sections if section.name.lower() in self.offered]
        return render(sections, wanted)

    # The sections.

    def _collect_server(self) -> Fields:
        engine = self.engine
        config = self._config
        uptime = (engine.clock.monotonic_ns() - engine.started_ns) // 1_000_000_000
        supervised = config.text("supervised")
        system = os.uname()
        fields: Fields = [
            ("redis_version", REDIS_VERSION),
            ("redis_git_sha1", "00000000"),
            ("redis_git_dirty", 0),
            ("sentrio_version", SENTRIO_VERSION),
            ("redis_mode", self.mode),
            ("os", f"{system.sysname} {system.release} {system.machine}"),
            ("arch_bits", 64 if sys.maxsize > 2**32 else 32),
            ("monotonic_clock", "POSIX clock_gettime"),
            ("multiplexing_api", "epoll" if sys.platform == "linux" else "kqueue"),
            ("python_version", platform.python_version()),
            ("process_id", os.getpid()),
            ("process_supervised", "unknown" if supervised == "auto" else supervised),
            ("run_id", self.run_id),
            ("tcp_port", self._server.ports[0] if self._server.ports else 0),
            ("server_time_usec", int(engine.clock.wall() * 1_000_000)),
            ("uptime_in_seconds", uptime),
            ("uptime_in_days", uptime // 86400),
            ("hz", config.integer("hz")),
            ("configured_hz", config.integer("hz")),
            ("lru_clock", engine.keyspace.clock),
            ("executable", sys.executable),
            ("config_file", config.file),
            ("io_threads_active", 0),
        ]
        for number, text in enumerate(self._listeners()):
            fields.append((f"listener{number}", text))
        return fields

    def _listeners(self) -> list[str]:
        """What is listened on, as INFO writes it."""
        found: list[str] = []
        for port in self._server.ports:
            hosts = "".join(f",bind={host}" for host in self._config.values("bind") if host)
            found.append(f"name=tcp{hosts},port={port}")
        path = self._config.text("unixsocket")
        if path:
            found.append(f"name=unix,bind={path}")
        return found

    def _collect_clients(self) -> Fields:
        engine = self.engine
        sessions = list(engine.sessions.values())
        blocking = engine.blocking
        return [
            ("connected_clients", sum(1 for s in sessions if s.fd >= 0)),
            ("cluster_connections", self.count_cluster_links()),
            ("maxclients", self._config.integer("maxclients")),
            ("client_recent_max_input_buffer", max((s.query_size for s in sessions), default=0)),
            ("client_recent_max_output_buffer", max((s.out_size for s in sessions), default=0)),
            ("blocked_clients", len(blocking.waits)),
            ("clients_in_timeout_table", sum(1 for wait in blocking.waits if wait.deadline)),
            ("total_blocking_keys", sum(len(db.waiters) for db in engine.keyspace.databases)),
            ("total_blocking_keys_on_nokey", 0),
        ]

    def _collect_stats(self) -> Fields:
        engine = self.engine
        traffic = self._hub.statistics
        keys = engine.keyspace.statistics
        return [
            ("total_connections_received", traffic.accepted),
            ("total_commands_processed", engine.processed),
            ("instantaneous_ops_per_sec", int(self._commands.mean())),
            ("total_net_input_bytes", traffic.input),
            ("total_net_output_bytes", traffic.output),
            ("instantaneous_input_kbps", self._input.mean() / 1024),
            ("instantaneous_output_kbps", self._output.mean() / 1024),
            ("instantaneous_input_repl_kbps", 0.0),
            ("instantaneous_output_repl_kbps", 0.0),
            ("rejected_connections", traffic.refused),
            ("expired_keys", keys.expired),
            ("expired_time_cap_reached_count", keys.expired_time_cap_reached),
            ("expire_cycle_cpu_milliseconds", keys.expire_cycle_cpu_ns // 1_000_000),
            ("evicted_keys", keys.evicted),
            ("keyspace_hits", keys.hits),
            ("keyspace_misses", keys.misses),
            ("unexpected_error_replies", engine.statistics.unexpected),
            ("total_error_replies", engine.statistics.errors),
            ("total_reads_processed", traffic.reads),
            ("total_writes_processed", traffic.writes),
            ("client_query_buffer_limit_disconnections", traffic.query_limit_cuts),
            ("client_output_buffer_limit_disconnections", traffic.output_limit_cuts),
        ]

    def _collect_cpu(self) -> Fields:
        times = CpuTimes()
        return [
            ("used_cpu_sys", f"{times.system:.6f}"),
            ("used_cpu_user", f"{times.user:.6f}"),
            ("used_cpu_sys_children", f"{times.children_system:.6f}"),
            ("used_cpu_user_children", f"{times.children_user:.6f}"),
            ("used_cpu_sys_main_thread", f"{times.thread_system:.6f}"),
            ("used_cpu_user_main_thread", f"{times.thread_user:.6f}"),
        ]

    def _collect_commands(self) -> Fields:
        fields: Fields = []
        for command in self.engine.all_commands():
            calls = command.calls
            if not calls and not command.rejected and not command.failed:
                continue
            spent = command.nanoseconds / 1000
            fields.append(
                (
                    f"cmdstat_{_field_name(command)}",
                    (
                        f"calls={calls},usec={int(spent)},"
                        f"usec_per_call={spent / max(1, calls):.2f},"
                        f"rejected_calls={command.rejected},failed_calls={command.failed}"
                    ),
                )
            )
        return fields

    def _collect_errors(self) -> Fields:
        counts = self.engine.statistics.error_counts
        return [
            (f"errorstat_{_safe(code.decode('latin-1'))}", f"count={count}")
            for code, count in sorted(counts.items())
        ]

    def _collect_latencies(self) -> Fields:
        if not self._config.boolean("latency-tracking"):
            return []
        wanted = self._config.values("latency-tracking-info-percentiles")
        fields: Fields = []
        for command in self.engine.all_commands():
            if not command.calls:
                continue
            figures = [
                f"p{_percent(text)}="
                f"{percentile(command.histogram, float(text), command.nanoseconds) / 1000:.3f}"
                for text in wanted
            ]
            fields.append((f"latency_percentiles_usec_{_field_name(command)}", ",".join(figures)))
        return fields

    def _collect_cluster(self) -> Fields:
        return [("cluster_enabled", int(self.cluster_enabled))]

    def _collect_keyspace(self) -> Fields:
        return [
            (f"db{db.index}", f"keys={db.count},expires={db.volatile},avg_ttl={db.average_ttl}")
            for db in self.engine.keyspace.databases
            if db.count
        ]


def _random_id(server: Server) -> str:
    return f"{server.engine.keyspace.random.getrandbits(160):040x}"


def _percent(text: str) -> str:
    """A percentile as INFO names it, without zeros at the end."""
    return f"{float(text):f}".rstrip("0").rstrip(".")


def _field_name(command: Command) -> str:
    return _safe(command.name.decode("latin-1"))


def _safe(name: str) -> str:
    """What would end a field's name early becomes an underscore (getSafeInfoString)."""
    return name.translate({ord("#"): "_", ord(":"): "_", ord("\n"): "_", ord("\r"): "_"})
