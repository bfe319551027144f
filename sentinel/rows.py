"""What SENTINEL MASTERS, REPLICAS and SENTINELS say of an instance: Redis's fields, in its order.

(``addReplySentinelRedisInstance`` in sentinel.c of Redis 7.2.)
"""

from __future__ import annotations

from typing import Final

from node.config.syntax import encode
from node.resp import Map, Reply
from sentinel.state import (
    FAILOVER_IN_PROGRESS,
    FAILOVER_STATE_NAMES,
    FORCE_FAILOVER,
    MASTER_DOWN,
    MASTER_REBOOT,
    O_DOWN,
    PROMOTED,
    RECONF_DONE,
    RECONF_INPROG,
    RECONF_SENT,
    S_DOWN,
    SCRIPT_KILL_SENT,
    Instance,
    Master,
    Peer,
    Replica,
    State,
)

_FLAGS: Final = (
    (MASTER_DOWN, "master_down"),
    (FAILOVER_IN_PROGRESS, "failover_in_progress"),
    (PROMOTED, "promoted"),
    (RECONF_SENT, "reconf_sent"),
    (RECONF_INPROG, "reconf_inprog"),
    (RECONF_DONE, "reconf_done"),
    (FORCE_FAILOVER, "force_failover"),
    (SCRIPT_KILL_SENT, "script_kill_sent"),
    (MASTER_REBOOT, "master_reboot"),
)


def describe(state: State, instance: Instance, now: int) -> Reply:
    """The row of one instance."""
    link = instance.link
    fields: list[tuple[str, object]] = [
        ("name", instance.name),
        ("ip", state.show(instance.address)),
        ("port", instance.address.port),
        ("runid", instance.run_id),
        ("flags", describe_flags(instance)),
        ("link-pending-commands", link.pending),
        ("link-refcount", len(link.users)),
    ]
    if isinstance(instance, Master) and instance.has(FAILOVER_IN_PROGRESS):
        fields.append(("failover-state", FAILOVER_STATE_NAMES[instance.failover_state]))
    fields += [
        ("last-ping-sent", _since(link.ping_sent, now)),
        ("last-ok-ping-reply", now - link.last_available),
        ("last-ping-reply", now - link.last_pong),
    ]
    if instance.has(S_DOWN):
        fields.append(("s-down-time", now - instance.s_down_since))
    if instance.has(O_DOWN):
        fields.append(("o-down-time", now - instance.o_down_since))
    fields.append(("down-after-milliseconds", instance.down_after))
    if not isinstance(instance, Peer):
        fields += [
            ("info-refresh", _since(instance.info_refreshed, now)),
            ("role-reported", instance.role_reported),
            ("role-reported-time", now - instance.role_reported_since),
        ]
    if isinstance(instance, Master):
        fields += _describe_master(instance)
    elif isinstance(instance, Replica):
        fields += [
            ("master-link-down-time", instance.master_link_down_time),
            ("master-link-status", "ok" if instance.master_link_up else "err"),
            ("master-host", instance.master_host or "?"),
            ("master-port", instance.master_port),
            ("slave-priority", instance.priority),
            ("slave-repl-offset", instance.offset),
            ("replica-announced", int(instance.announced)),
        ]
    elif isinstance(instance, Peer):
        fields += [
            ("last-hello-message", now - instance.last_hello_heard),
            ("voted-leader", instance.leader or "?"),
            ("voted-leader-epoch", instance.leader_epoch),
        ]
    return Map([encode(str(part)) for field in fields for part in field])


def _describe_master(master: Master) -> list[tuple[str, object]]:
    fields: list[tuple[str, object]] = [
        ("config-epoch", master.config_epoch),
        ("num-slaves", len(master.replicas)),
        ("num-other-sentinels", len(master.peers)),
        ("quorum", master.quorum),
        ("failover-timeout", master.failover_timeout),
        ("parallel-syncs", master.parallel_syncs),
    ]
    if master.notification_script:
        fields.append(("notification-script", master.notification_script))
    if master.client_reconfig_script:
        fields.append(("client-reconfig-script", master.client_reconfig_script))
    if master.cluster is not None:
        fields += [("cluster", master.cluster.name), ("node-id", master.node_id)]
    return fields


def describe_flags(instance: Instance) -> str:
    """The flags, in words."""
    flags = []
    if instance.has(S_DOWN):
        flags.append("s_down")
    if instance.has(O_DOWN):
        flags.append("o_down")
    flags.append(instance.kind)
    if instance.link.is_disconnected:
        flags.append("disconnected")
    return ",".join(flags + [name for flag, name in _FLAGS if instance.has(flag)])


def _since(then: int, now: int) -> int:
    return now - then if then else 0
