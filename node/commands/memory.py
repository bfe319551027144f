"""MEMORY: what keys and the server take, and what the allocator says of it.

The figures are the keyspace's own accounts (see :mod:`node.keyspace`): bytes of this process, which
for small keys are more than a real Redis takes. Shapes after ``memoryCommand`` in Redis's object.c.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from node.command import Group, key
from node.commands.arguments import SYNTAX_ERROR, find_untouched, help_reply, integer
from node.component import Component
from node.eviction import clients_memory, replicas_memory
from node.information import Fields, Section
from node.key_table import ENTRY_MEMORY, SLOT_MEMORY, TIMED_MEMORY, object_memory
from node.resp import OK, Map, Reply, ReplyError, Verbatim
from node.session import Session
from node.usage import (
    allocator_report,
    human_size,
    release_memory,
    resident_memory,
    total_memory,
)

if TYPE_CHECKING:
    from node.server import Server

GROUP: Final = Group("server")
GROUP.container("memory", since="4.0.0", summary="Holds the commands about memory.")

TIPS: Final = (
    "nondeterministic_output",
    "request_policy:all_shards",
    "response_policy:special",
)

# Below this there is nothing to diagnose.
SMALL: Final = 5 * 1024 * 1024

HELP: Final = (
    "DOCTOR",
    "    Report what about the use of memory is out of the ordinary.",
    "MALLOC-STATS",
    "    Report what the allocator tells of itself.",
    "PURGE",
    "    Give memory that is free inside the process back to the system.",
    "STATS",
    "    Tell what the memory is used for.",
    "USAGE <key> [SAMPLES <count>]",
    "    Tell how many bytes <key> and its value take. The figure is kept for each value, so",
    "    there is nothing to sample: <count> makes no difference.",
)


class Memory(Component):
    """The MEMORY command and INFO's section on memory. ``peak`` is the most there was, in bytes."""

    def __init__(self, server: Server) -> None:
        super().__init__(server.engine)
        self._config = server.config
        self.peak = 0
        self.measure_cluster_links: Callable[[], int] = int
        self._buffered = 0  # bytes of buffers, when last asked

    def groups(self) -> Sequence[Group]:
        return (GROUP,)

    def sections(self) -> Sequence[Section]:
        return (Section("Memory", self._collect),)

    def tick(self, now_ns: int) -> None:
        # Clients may be too many to be added up this often.
        self.peak = max(self.peak, self.engine.keyspace.used_memory + self._buffered)

    def used(self) -> int:
        """Bytes of data and of buffers; the peak is kept."""
        self._buffered = self._buffers()
        used = self.engine.keyspace.used_memory + self._buffered
        self.peak = max(self.peak, used)
        return used

    def _buffers(self) -> int:
        """Bytes held for clients and replicas."""
        engine = self.engine
        total = clients_memory(engine) + replicas_memory(engine) + sum(engine.command_log.kept())
        return total + self.measure_cluster_links()

    def overhead(self) -> int:
        """Bytes of :meth:`used` that are neither keys nor values."""
        total = self._buffers()
        for db in self.engine.keyspace.databases:
            total += db.table.room + db.count * ENTRY_MEMORY + db.volatile * TIMED_MEMORY
        return total

    def _collect(self) -> Fields:
        keyspace = self.engine.keyspace
        used = self.used()
        resident = resident_memory()
        peak = self.peak
        overhead = self.overhead()
        dataset = max(0, used - overhead)
        total = total_memory()
        limit = self._config.integer("maxmemory")
        waiting = self.engine.command_log.waiting()
        kept, lacked = self.engine.command_log.kept()
        queued = replicas_memory(self.engine)
        return [
            ("used_memory", used),
            ("used_memory_human", human_size(used)),
            ("used_memory_rss", resident),
            ("used_memory_rss_human", human_size(resident)),
            ("used_memory_peak", peak),
            ("used_memory_peak_human", human_size(peak)),
            ("used_memory_peak_perc", f"{used * 100 / max(1, peak):.2f}%"),
            ("used_memory_overhead", overhead),
            ("used_memory_startup", 0),
            ("used_memory_dataset", dataset),
            ("used_memory_dataset_perc", f"{dataset * 100 / max(1, used):.2f}%"),
            ("total_system_memory", total),
            ("total_system_memory_human", human_size(total)),
            ("maxmemory", limit),
            ("maxmemory_human", human_size(limit)),
            ("maxmemory_policy", self._config.text("maxmemory-policy")),
            ("mem_fragmentation_ratio", resident / max(1, used)),
            ("mem_fragmentation_bytes", resident - used),
            ("mem_not_counted_for_evict", keyspace.trash.memory + waiting + lacked + queued),
            ("mem_replication_backlog", kept),
            ("mem_total_replication_buffers", kept + lacked + queued),
            ("mem_clients_slaves", queued),
            ("mem_clients_normal", clients_memory(self.engine)),
            ("mem_cluster_links", self.measure_cluster_links()),
            ("mem_aof_buffer", waiting),
            ("mem_allocator", "pymalloc"),
            ("active_defrag_running", 0),
            ("lazyfree_pending_objects", len(keyspace.trash)),
            ("lazyfreed_objects", keyspace.trash.freed),
        ]

    @GROUP.command(
        "memory|usage",
        -3,
        "readonly",
        keys=[key("RO", 2)],
        since="4.0.0",
        complexity="O(1)",
        summary="Tells how much memory a key and its value take.",
        syntax="key [SAMPLES count]",
    )
    def usage(self, ctx: Session, argv: list[bytes]) -> Reply:
        """Bytes of the key, its value and their place in the table; null where there is none."""
        for at in range(3, len(argv), 2):
            if argv[at].lower() != b"samples" or at + 1 == len(argv):
                raise ReplyError(SYNTAX_ERROR)
            if integer(argv[at + 1]) < 0:
                raise ReplyError(SYNTAX_ERROR)
        name = argv[2]
        value = find_untouched(ctx.db, name)
        if value is None:
            return None
        size = object_memory(name) + ENTRY_MEMORY + SLOT_MEMORY + object_memory(value)
        if ctx.db.deadline(name) is not None:
            size += TIMED_MEMORY
        return size

    @GROUP.command(
        "memory|stats",
        2,
        since="4.0.0",
        complexity="O(1)",
        summary="Tells what the memory is used for.",
        tips=TIPS,
    )
    def stats(self, ctx: Session, argv: list[bytes]) -> Reply:
        """A map of figures, with one of tables per database that has keys."""
        keyspace = self.engine.keyspace
        used = self.used()
        overhead = self.overhead()
        resident = resident_memory()
        keys = sum(db.count for db in keyspace.databases)
        dataset = max(0, used - overhead)
        items: list[Reply] = [
            *(b"peak.allocated", self.peak),
            *(b"total.allocated", used),
            *(b"startup.allocated", 0),
            *(b"replication.backlog", self.engine.command_log.kept()[0]),
            *(b"clients.slaves", replicas_memory(self.engine)),
            *(b"clients.normal", clients_memory(self.engine)),
            *(b"cluster.links", self.measure_cluster_links()),
            *(b"aof.buffer", self.engine.command_log.waiting()),
        ]
        for db in keyspace.databases:
            if db.count:
                tables = [
                    *(b"overhead.hashtable.main", db.table.room + db.count * ENTRY_MEMORY),
                    *(b"overhead.hashtable.expires", db.volatile * TIMED_MEMORY),
                ]
                items += (b"db.%d" % db.index, Map(tables))
        items += (
            *(b"overhead.total", overhead),
            *(b"keys.count", keys),
            *(b"keys.bytes-per-key", used // keys if keys else 0),
            *(b"dataset.bytes", dataset),
            *(b"dataset.percentage", dataset * 100 / max(1, used)),
            *(b"peak.percentage", used * 100 / max(1, self.peak)),
            *(b"lazyfree.pending-bytes", keyspace.trash.memory),
            *(b"allocator.resident", resident),
            *(b"fragmentation", resident / max(1, used)),
            *(b"fragmentation.bytes", resident - used),
        )
        return Map(items)

    @GROUP.command(
        "memory|doctor",
        2,
        since="4.0.0",
        complexity="O(1)",
        summary="Reports what about the use of memory is out of the ordinary.",
        tips=TIPS,
    )
    def doctor(self, ctx: Session, argv: list[bytes]) -> Reply:
        """Text for people."""
        used = self.used()
        if used < SMALL:
            return Verbatim(
                b"There is too little data in this server for a diagnosis. "
                b"Ask again when it holds more than 5 megabytes.\n"
            )
        found = self._findings(used)
        if not found:
            return Verbatim(b"Nothing about the use of memory is out of the ordinary.\n")
        return Verbatim("".join(f"- {finding}\n" for finding in found).encode())

    def _findings(self, used: int) -> list[str]:
        found: list[str] = []
        peak = self.peak
        resident = resident_memory()
        limit = self._config.integer("maxmemory")
        sessions = len(self.engine.sessions)
        clients = clients_memory(self.engine)
        trash = self.engine.keyspace.trash.memory
        if peak > used * 1.5:
            found.append(
                f"It was {human_size(peak)} at its peak, more than one and a half times the "
                f"{human_size(used)} of now. What is free inside the process is used again, but "
                "goes back to the system in part only; MEMORY PURGE tries."
            )
        if resident - used > 512 * 1024 * 1024 and resident > used * 2:
            found.append(
                f"The process occupies {human_size(resident)}, more than twice what it uses: its "
                "memory is fragmented. MEMORY PURGE may help, a restart does."
            )
        if clients > 100 * 1024 * 1024 and clients > used // 10:
            found.append(
                f"{sessions} clients hold {human_size(clients)} in buffers. Look for those that "
                "do not read their replies (CLIENT LIST, omem), and see "
                "client-output-buffer-limit and maxmemory-clients."
            )
        if trash > 100 * 1024 * 1024:
            found.append(
                f"{human_size(trash)} of deleted data are being freed in the background now."
            )
        if not limit and used > total_memory() * 0.6:
            found.append(
                "The data take more than 60% of the machine's memory and maxmemory is not set: "
                "nothing keeps the system from swapping or ending the process."
            )
        return found

    @GROUP.command(
        "memory|malloc-stats",
        2,
        since="4.0.0",
        complexity="O(1)",
        summary="Reports what the allocator tells of itself.",
        tips=TIPS,
    )
    def malloc_stats(self, ctx: Session, argv: list[bytes]) -> Reply:
        """Text for people."""
        return Verbatim(allocator_report().encode())

    @GROUP.command(
        "memory|purge",
        2,
        since="4.0.0",
        complexity="O(N), N being the size of the heap",
        summary="Gives free memory back to the system.",
        tips=["request_policy:all_shards", "response_policy:all_succeeded"],
    )
    def purge(self, ctx: Session, argv: list[bytes]) -> Reply:
        """OK, whatever could be given back."""
        release_memory()
        return OK

    @GROUP.command(
        "memory|help",
        2,
        "loading stale",
        since="4.0.0",
        complexity="O(1)",
        summary="Lists the subcommands of MEMORY.",
    )
    def help(self, ctx: Session, argv: list[bytes]) -> Reply:
        """The lines above."""
        return help_reply("memory", HELP)
