"""What a sentinel tells Prometheus beyond the fields of its INFO."""

from __future__ import annotations

from collections.abc import Iterator

from node.telemetry.samples import Sample
from sentinel.machine import Machine
from sentinel.state import O_DOWN, S_DOWN


def tell_masters(machine: Machine) -> Iterator[Sample]:
    """Of each master: how many of its replicas and sentinels are well, and whether that is enough.

    As redis_exporter makes them of SENTINEL MASTERS, REPLICAS, SENTINELS and CKQUORUM.
    """
    state = machine.state
    for master in state.masters.values():
        address = f"{state.show(master.address)}:{master.address.port}"
        labels = {"master_name": master.name, "master_address": address}
        well = sum(not replica.has(S_DOWN | O_DOWN) for replica in master.replicas.values())
        usable, quorum, majority = machine.check_quorum(master)
        enough = quorum and majority
        yield Sample("sentinel_master_ok_slaves", well, labels)
        yield Sample("sentinel_master_ok_sentinels", usable, labels)
        message = f"{'OK' if enough else 'NOQUORUM'} {usable} usable Sentinels"
        yield Sample(
            "sentinel_master_ckquorum_status",
            float(enough),
            {"master_name": master.name, "message": message},
        )
