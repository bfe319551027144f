"""One table of commands per family; a table's lines are all that a new command needs."""

from __future__ import annotations

from typing import Final

from tests.differential.families import (
    bitmaps,
    cluster,
    connection,
    dumps,
    hashes,
    keys,
    lists,
    replication,
    sets,
    snapshots,
    sorted_sets,
    strings,
)
from tests.differential.grammar import Command

FAMILIES: Final[dict[str, list[Command]]] = {
    "strings": strings.COMMANDS,
    "bitmaps": bitmaps.COMMANDS,
    "lists": lists.COMMANDS,
    "hashes": hashes.COMMANDS,
    "sets": sets.COMMANDS,
    "sorted_sets": sorted_sets.COMMANDS,
    "keys": keys.COMMANDS,
    "dumps": dumps.COMMANDS,
    "connection": connection.COMMANDS,
    "snapshots": snapshots.COMMANDS,
    "replication": replication.COMMANDS,
    "cluster": cluster.COMMANDS,
}
