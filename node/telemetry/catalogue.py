"""Every metric that a node or a sentinel may export, declared once.

Names, kinds and labels are those of redis_exporter (oliver006/redis_exporter), so that dashboards
and alerts made for it work without it. What it has and is missing here stands for things that do
not exist here: modules, scripts, an allocator that defragments.
"""

from __future__ import annotations

from typing import Final

PREFIX: Final = "redis_"
GAUGE: Final = "gauge"
COUNTER: Final = "counter"
SUMMARY: Final = "summary"


class Metric:
    """A metric: its name without the prefix, its kind, what it says.

    ``field`` names the field of INFO (or of CLUSTER INFO) that is its value, if it is no more than
    that; ``labels`` are there otherwise.
    """

    __slots__ = ("name", "kind", "help", "field", "labels")

    def __init__(
        self, name: str, kind: str, help: str, field: str = "", labels: tuple[str, ...] = ()
    ) -> None:
        self.name = name
        self.kind = kind
        self.help = help
        self.field = field
        self.labels = labels


def _gauge(field: str, name: str, help: str) -> Metric:
    return Metric(name or field, GAUGE, help, field)


def _counter(field: str, name: str, help: str) -> Metric:
    return Metric(name or field, COUNTER, help, field)


def _labelled(name: str, kind: str, labels: str, help: str) -> Metric:
    return Metric(name, kind, help, labels=tuple(labels.split()))


PROCESS: Final = [
    Metric("up", GAUGE, "1: whoever answers is up."),
    _labelled(
        "instance_info",
        GAUGE,
        "role redis_version sentrio_version redis_build_id redis_mode os maxmemory_policy tcp_port "
        "run_id process_id",
        "1, with what the process is as labels.",
    ),
    _gauge("uptime_in_seconds", "", "Seconds since the start."),
    Metric("start_time_seconds", GAUGE, "When the process started, in Unix seconds."),
    _gauge("process_id", "", "Id of the process."),
    _gauge("io_threads_active", "", "Threads that read and write for clients."),
    _counter("used_cpu_sys", "cpu_sys_seconds_total", "Processor time spent in the system."),
    _counter("used_cpu_user", "cpu_user_seconds_total", "Processor time spent in the program."),
    _counter(
        "used_cpu_sys_children",
        "cpu_sys_children_seconds_total",
        "Processor time that children spent in the system.",
    ),
    _counter(
        "used_cpu_user_children",
        "cpu_user_children_seconds_total",
        "Processor time that children spent in the program.",
    ),
    _counter(
        "used_cpu_sys_main_thread",
        "cpu_sys_main_thread_seconds_total",
        "Processor time that the main thread spent in the system.",
    ),
    _counter(
        "used_cpu_user_main_thread",
        "cpu_user_main_thread_seconds_total",
        "Processor time that the main thread spent in the program.",
    ),
]

CLIENTS: Final = [
    _gauge("connected_clients", "", "Clients, without replicas."),
    _gauge("maxclients", "config_maxclients", "Clients that may be connected (`maxclients`)."),
    _gauge("blocked_clients", "", "Clients that wait for a key."),
    _gauge("clients_in_timeout_table", "", "Clients that wait for a key, and not for ever."),
    _gauge("total_blocking_keys", "", "Keys that clients wait for."),
    _gauge(
        "total_blocking_keys_on_nokey",
        "",
        "Keys that clients wait for who want to hear of their deletion.",
    ),
    _gauge(
        "client_recent_max_input_buffer",
        "client_recent_max_input_buffer_bytes",
        "The most that a client has sent and that is not executed.",
    ),
    _gauge(
        "client_recent_max_output_buffer",
        "client_recent_max_output_buffer_bytes",
        "The most that waits to be sent to a client.",
    ),
    _counter("total_connections_received", "connections_received_total", "Connections accepted."),
    _counter("rejected_connections", "rejected_connections_total", "Connections refused."),
    _gauge("cluster_connections", "", "Links of the cluster bus."),
]

MEMORY: Final = [
    _gauge("used_memory", "memory_used_bytes", "Bytes that data and buffers take."),
    _gauge("used_memory_rss", "memory_used_rss_bytes", "Bytes of the process in memory."),
    _gauge("used_memory_peak", "memory_used_peak_bytes", "The most that it has been."),
    _gauge("used_memory_overhead", "memory_used_overhead_bytes", "Bytes that are not data."),
    _gauge("used_memory_startup", "memory_used_startup_bytes", "Bytes of an empty server."),
    _gauge("used_memory_dataset", "memory_used_dataset_bytes", "Bytes of data."),
    _gauge("maxmemory", "memory_max_bytes", "The limit (`maxmemory`), 0 for none."),
    Metric("config_maxmemory", GAUGE, "The same.", "maxmemory"),
    _gauge("mem_fragmentation_ratio", "", "Memory of the process by that of the data."),
    _gauge("mem_fragmentation_bytes", "", "What the process takes beyond the data."),
    _gauge("mem_clients_slaves", "", "Bytes queued for replicas."),
    _gauge("mem_clients_normal", "", "Bytes of clients' buffers."),
    _gauge("mem_cluster_links", "mem_cluster_links_bytes", "Bytes queued on the bus."),
    _gauge(
        "mem_not_counted_for_evict",
        "mem_not_counted_for_eviction_bytes",
        "Bytes that no eviction would free.",
    ),
    _gauge(
        "mem_total_replication_buffers",
        "mem_total_replication_buffers_bytes",
        "Bytes of the backlog and of what replicas lack.",
    ),
    _gauge("lazyfree_pending_objects", "", "Values that wait to be freed."),
    _gauge("lazyfreed_objects", "", "Values freed in the background."),
    _gauge("active_defrag_running", "", "Always 0."),
    _gauge("migrate_cached_sockets", "migrate_cached_sockets_total", "Sockets kept by MIGRATE."),
]

PERSISTENCE: Final = [
    _gauge("loading", "loading_dump_file", "1 while data are loaded from disk."),
    _gauge("async_loading", "", "1 while a master's data are loaded beside the old ones."),
    _gauge("rdb_changes_since_last_save", "", "Changes since the last snapshot."),
    _gauge("rdb_bgsave_in_progress", "", "1 while a snapshot is written."),
    _gauge(
        "rdb_last_save_time",
        "rdb_last_save_timestamp_seconds",
        "When the last snapshot was done, in Unix seconds.",
    ),
    _gauge("rdb_last_bgsave_status", "", "1 if the last snapshot succeeded."),
    _gauge(
        "rdb_last_bgsave_time_sec", "rdb_last_bgsave_duration_sec", "How long the last one took."
    ),
    _gauge(
        "rdb_current_bgsave_time_sec",
        "rdb_current_bgsave_duration_sec",
        "How long the present one has taken; -1 without one.",
    ),
    _counter("rdb_saves", "rdb_saves_total", "Snapshots written."),
    _gauge(
        "rdb_last_cow_size",
        "rdb_last_cow_size_bytes",
        "Memory that was copied while the last snapshot was written.",
    ),
    _gauge(
        "rdb_last_load_keys_expired",
        "rdb_last_load_expired_keys",
        "Keys that had expired when the data were loaded.",
    ),
    _gauge(
        "rdb_last_load_keys_loaded",
        "rdb_last_load_loaded_keys",
        "Keys that were there when the data were loaded.",
    ),
    _gauge("aof_enabled", "", "1 with an append-only file."),
    _gauge("aof_rewrite_in_progress", "", "1 while it is rewritten."),
    _gauge("aof_rewrite_scheduled", "", "1 if it will be after the snapshot."),
    _gauge(
        "aof_last_rewrite_time_sec", "aof_last_rewrite_duration_sec", "How long the last one took."
    ),
    _gauge(
        "aof_current_rewrite_time_sec",
        "aof_current_rewrite_duration_sec",
        "How long the present one has taken; -1 without one.",
    ),
    _gauge("aof_last_bgrewrite_status", "", "1 if the last rewrite succeeded."),
    _gauge("aof_last_write_status", "", "1 if the last write to the file succeeded."),
    _gauge(
        "aof_last_cow_size",
        "aof_last_cow_size_bytes",
        "Memory that was copied while it was rewritten.",
    ),
    _gauge("aof_current_size", "aof_current_size_bytes", "Size of the append-only file."),
    _gauge("aof_base_size", "aof_base_size_bytes", "The same after the last rewrite."),
    _gauge("aof_pending_rewrite", "", "1 while a rewrite is waited for."),
    _gauge("aof_buffer_length", "", "Bytes that wait to be written to it."),
    _gauge("aof_pending_bio_fsync", "", "Flushes that wait for the disk."),
    _gauge("aof_delayed_fsync", "", "Writes that waited for a flush."),
    _gauge("latest_fork_usec", "", "Microseconds that the last fork took."),
    Metric("latest_fork_seconds", GAUGE, "The same in seconds."),
    _gauge("module_fork_in_progress", "", "Always 0."),
    _gauge("module_fork_last_cow_size", "", "Always 0."),
]

TRAFFIC: Final = [
    _counter("total_commands_processed", "commands_processed_total", "Commands executed."),
    _gauge("instantaneous_ops_per_sec", "", "Commands a second, lately."),
    _counter("total_net_input_bytes", "net_input_bytes_total", "Bytes that came from clients."),
    _counter("total_net_output_bytes", "net_output_bytes_total", "Bytes that went to clients."),
    _counter(
        "total_net_repl_input_bytes", "net_repl_input_bytes_total", "Bytes that came from a master."
    ),
    _counter(
        "total_net_repl_output_bytes", "net_repl_output_bytes_total", "Bytes that went to replicas."
    ),
    _counter("total_reads_processed", "", "Reads from sockets."),
    _counter("total_writes_processed", "", "Writes to sockets."),
    _counter("total_error_replies", "", "Replies that were errors."),
    _counter("unexpected_error_replies", "", "Errors that are bugs of the server."),
    _labelled("errors_total", COUNTER, "err", "Replies that were errors, by their first word."),
    _labelled("commands_total", COUNTER, "cmd", "Calls of a command."),
    _labelled(
        "commands_duration_seconds_total", COUNTER, "cmd", "Time that calls of a command took."
    ),
    _labelled(
        "commands_rejected_calls_total", COUNTER, "cmd", "Calls that were not executed at all."
    ),
    _labelled("commands_failed_calls_total", COUNTER, "cmd", "Calls that ended in an error."),
    _labelled(
        "latency_percentiles_usec",
        SUMMARY,
        "cmd",
        "Microseconds within which so many percent of the calls of a command were done.",
    ),
    _labelled(
        "latency_spike_last",
        GAUGE,
        "event_name",
        "When a spike of that kind was last seen, in Unix seconds.",
    ),
    _labelled(
        "latency_spike_duration_seconds", GAUGE, "event_name", "How long the last such spike took."
    ),
    Metric("slowlog_length", GAUGE, "Entries of SLOWLOG."),
    Metric("slowlog_last_id", GAUGE, "Id of its newest entry."),
    Metric("last_slow_execution_duration_seconds", GAUGE, "How long that one took."),
    _gauge("acl_access_denied_auth", "", "Attempts to authenticate that failed."),
    _gauge("pubsub_channels", "", "Channels with subscribers."),
    _gauge("pubsub_patterns", "", "Patterns with subscribers."),
    _gauge("pubsubshard_channels", "", "Channels of shards with subscribers."),
]

KEYSPACE: Final = [
    _labelled("db_keys", GAUGE, "db", "Keys."),
    _labelled("db_keys_expiring", GAUGE, "db", "Keys that expire."),
    _labelled("db_avg_ttl_seconds", GAUGE, "db", "How long such a key has left on average."),
    _counter("expired_keys", "expired_keys_total", "Keys that have expired."),
    _counter("evicted_keys", "evicted_keys_total", "Keys that had to go for lack of memory."),
    _counter("keyspace_hits", "keyspace_hits_total", "Look-ups that found the key."),
    _counter("keyspace_misses", "keyspace_misses_total", "Look-ups that found no key."),
    _gauge("expired_stale_perc", "expired_stale_percentage", "Keys that have expired but exist."),
    _gauge(
        "expired_time_cap_reached_count",
        "expired_time_cap_reached_total",
        "How often there was no time to delete all that had expired.",
    ),
    _counter(
        "expire_cycle_cpu_milliseconds",
        "expire_cycle_cpu_time_ms_total",
        "Time spent on looking for expired keys.",
    ),
    _gauge(
        "current_eviction_exceeded_time",
        "current_eviction_exceeded_time_ms",
        "How long memory has been above the limit.",
    ),
    _counter(
        "total_eviction_exceeded_time",
        "eviction_exceeded_time_ms_total",
        "How long it has been above it altogether.",
    ),
]

REPLICATION: Final = [
    _gauge("connected_slaves", "", "Replicas that are connected."),
    _labelled(
        "connected_slave_offset_bytes",
        GAUGE,
        "slave_ip slave_port slave_state",
        "How much of the history a replica has.",
    ),
    _labelled(
        "connected_slave_lag_seconds",
        GAUGE,
        "slave_ip slave_port slave_state",
        "Seconds since a replica was last heard of.",
    ),
    _gauge("master_repl_offset", "", "How much of the history there is."),
    _gauge("second_repl_offset", "", "Where the history of the former master ended; -1: none."),
    _gauge("repl_backlog_active", "repl_backlog_is_active", "1 with a backlog."),
    _gauge("repl_backlog_size", "replication_backlog_bytes", "Size of the backlog."),
    _gauge("repl_backlog_first_byte_offset", "", "Where it begins."),
    _gauge("repl_backlog_histlen", "repl_backlog_history_bytes", "Bytes in it."),
    _gauge("sync_full", "replica_resyncs_full", "Full synchronizations of replicas."),
    _gauge(
        "sync_partial_ok",
        "replica_partial_resync_accepted",
        "Partial synchronizations.",
    ),
    _gauge(
        "sync_partial_err",
        "replica_partial_resync_denied",
        "Partial synchronizations that were not possible.",
    ),
    _gauge("slave_expires_tracked_keys", "", "Keys that expire on a writable replica."),
    _gauge("slave_priority", "", "Rank for sentinels (`replica-priority`)."),
    _labelled(
        "slave_info", GAUGE, "master_host master_port read_only", "1 on a replica, with its master."
    ),
    _labelled("master_link_up", GAUGE, "master_host master_port", "1 if the master is connected."),
    _labelled(
        "master_last_io_seconds_ago",
        GAUGE,
        "master_host master_port",
        "Seconds since the master was last heard of; -1: never.",
    ),
    _labelled(
        "master_sync_in_progress",
        GAUGE,
        "master_host master_port",
        "1 while all data come from the master.",
    ),
    _labelled(
        "slave_repl_offset",
        GAUGE,
        "master_host master_port",
        "How much of the master's history is there.",
    ),
]

PACKETS: Final = (
    *("ping", "pong", "meet", "fail", "publish", "publishshard", "auth-req", "auth-ack"),
    *("update", "mfstart", "module"),
)
CLUSTER: Final = [
    _gauge("cluster_enabled", "", "1 in cluster mode."),
    _gauge("cluster_state", "", "1 while the node takes the cluster to be up."),
    _gauge("cluster_slots_assigned", "", "Slots that have an owner."),
    _gauge("cluster_slots_ok", "", "Slots whose owner is well."),
    _gauge("cluster_slots_pfail", "", "Slots whose owner may be failing."),
    _gauge("cluster_slots_fail", "", "Slots whose owner fails."),
    _gauge("cluster_known_nodes", "", "Nodes that are known."),
    _gauge("cluster_size", "", "Masters with slots."),
    _gauge("cluster_current_epoch", "", "The cluster's epoch."),
    _gauge("cluster_my_epoch", "", "The config epoch of the node's shard."),
    _gauge(
        "cluster_stats_messages_sent", "cluster_messages_sent_total", "Packets sent on the bus."
    ),
    _gauge(
        "cluster_stats_messages_received",
        "cluster_messages_received_total",
        "Packets that came on the bus.",
    ),
    *(
        _gauge(
            f"cluster_stats_messages_{kind}_{way}",
            f"cluster_stats_messages_{kind.replace('-', '_')}_{way}",
            f"Packets {way}, of the kind `{kind}`.",
        )
        for kind in PACKETS
        for way in ("sent", "received")
    ),
]

SENTINEL: Final = [
    _gauge("sentinel_masters", "", "Masters that are watched."),
    _gauge("sentinel_tilt", "", "1 while the sentinel does not trust its clock."),
    _gauge("sentinel_running_scripts", "", "Scripts that run."),
    _gauge("sentinel_scripts_queue_length", "", "Scripts that are queued."),
    _gauge("sentinel_simulate_failure_flags", "", "Failures that are played for tests."),
    _labelled(
        "sentinel_master_status",
        GAUGE,
        "master_name master_address master_status",
        "1 while the master is well; `master_status` says how it is.",
    ),
    _labelled(
        "sentinel_master_slaves", GAUGE, "master_name master_address", "Replicas of a master."
    ),
    _labelled(
        "sentinel_master_sentinels", GAUGE, "master_name master_address", "Sentinels of a master."
    ),
    _labelled(
        "sentinel_master_ok_slaves",
        GAUGE,
        "master_name master_address",
        "Replicas of a master that are well.",
    ),
    _labelled(
        "sentinel_master_ok_sentinels",
        GAUGE,
        "master_name master_address",
        "Sentinels of a master that are well.",
    ),
    _labelled(
        "sentinel_master_ckquorum_status",
        GAUGE,
        "master_name message",
        "1 while a failover would find its quorum (SENTINEL CKQUORUM).",
    ),
]

SECTIONS: Final = [
    ("Process", PROCESS),
    ("Clients", CLIENTS),
    ("Memory", MEMORY),
    ("Persistence", PERSISTENCE),
    ("Commands and traffic", TRAFFIC),
    ("Keys", KEYSPACE),
    ("Replication", REPLICATION),
    ("Cluster", CLUSTER),
    ("Sentinel", SENTINEL),
]
METRICS: Final = {metric.name: metric for _, section in SECTIONS for metric in section}
BY_FIELD: Final[dict[str, list[Metric]]] = {}
for _metric in METRICS.values():
    if _metric.field:
        BY_FIELD.setdefault(_metric.field, []).append(_metric)
