"""Which replica is to be the master: the one that works, is wanted, and has most of the data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sentinel.state import O_DOWN, S_DOWN, Master, Replica

if TYPE_CHECKING:
    from sentinel.machine import Settings

VALID_PINGS: Final = 5
VALID_INFORMATION: Final = 3
LONGEST_DISCONNECTION: Final = 10  # down-after times

LAST_RUN_ID: Final = "~"  # sorts after all


def select_replica(master: Master, settings: Settings, now: int) -> Replica | None:
    """The best replica, None if there is none that is good (``sentinelSelectSlave``).

    By priority (the least, but 0 is never chosen), then by offset, then by run id.
    """
    good = [replica for replica in master.replicas.values() if is_good(replica, settings, now)]
    return min(good, key=_rank, default=None)


def _rank(replica: Replica) -> tuple[int, int, str]:
    return replica.priority, -replica.offset, replica.run_id.lower() or LAST_RUN_ID


def is_reachable(replica: Replica, settings: Settings, now: int) -> bool:
    """Whether it works and may be a master, whatever data it has."""
    link = replica.link
    return (
        not replica.has(S_DOWN | O_DOWN)
        and link.commands_open
        and now - link.last_available <= settings.ping_period * VALID_PINGS
        and replica.priority != 0
    )


def is_good(replica: Replica, settings: Settings, now: int) -> bool:
    """Whether it could be promoted: reachable, known well enough, not too far behind.

    One that is still waiting for its first synchronization is not, which Redis's sentinels would
    promote: the data would be lost, and those of the old master as well once it follows. Nor is,
    while the master is there, an old master that has not been made a replica yet: it lacks what has
    been written since.
    """
    master = replica.master
    if not is_reachable(replica, settings, now) or not replica.info_refreshed:
        return False
    if replica.has_nothing:
        return False
    if replica.role_reported == "master" == master.role_reported and not master.has(S_DOWN):
        return False
    if master.has(S_DOWN):
        validity = settings.ping_period * VALID_PINGS
    else:
        validity = settings.info_period * VALID_INFORMATION
    if now - replica.info_refreshed > validity:
        return False
    if master.has(S_DOWN) and master.role_reported == "slave":
        # Nobody could follow it since it is none, however long that is; with Redis's sentinels
        # servers that follow each other in a circle stay without a master.
        return True
    longest = master.down_after * LONGEST_DISCONNECTION
    if master.has(S_DOWN):
        longest += now - master.s_down_since
    return replica.master_link_down_time <= longest
