"""CLUSTER and its kin: what clients and operators want of a node of a cluster.

What only asks is in :mod:`.inquiries`. Without cluster mode all of them say that there is none.
Behaviour and texts after ``clusterCommand`` in cluster.c of Redis 7.2.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Final

from cluster.family import DISABLED, ClusterFamily
from cluster.restrictions import restrict_commands
from cluster.slots import SLOTS
from node.command import Group
from node.commands.arguments import SYNTAX_ERROR, integer, subcommand_error
from node.resp import OK, Reply, ReplyError, Status
from node.session import Session
from node.values.number import parse_integer

GROUP: Final = Group("cluster")
GROUP.container("cluster", since="3.0.0", summary="Holds the commands about the cluster.")

BAD_SLOT: Final = b"ERR Invalid or out of range slot"
LARGEST_PORT: Final = 65535
ADMIN: Final = "admin stale no_async_loading"

HELP: Final = (
    "CLUSTER <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "COUNTKEYSINSLOT <slot>",
    "    Count the keys of <slot> on this node.",
    "GETKEYSINSLOT <slot> <count>",
    "    List up to <count> keys of <slot> on this node.",
    "INFO",
    "    Describe the cluster as this node sees it.",
    "KEYSLOT <key>",
    "    Tell the hash slot of <key>.",
    "MYID",
    "    Tell the name of this node.",
    "MYSHARDID",
    "    Tell the name of the shard that this node is in.",
    "NODES",
    "    Describe all nodes, one in a line:",
    "    <id> <ip:port@bus-port[,hostname]> <flags> <master> <ping> <pong> <epoch> <link> <slots>",
    "REPLICAS <node-id>",
    "    Describe the replicas of <node-id>.",
    "SLOTS",
    "    List ranges of slots, and the nodes that have them.",
    "SHARDS",
    "    List the shards: their slots and their nodes.",
    "ADDSLOTS <slot> [<slot> ...]",
    "    Let this node have slots that nobody has.",
    "ADDSLOTSRANGE <start slot> <end slot> [<start slot> <end slot> ...]",
    "    The same for ranges.",
    "BUMPEPOCH",
    "    Take a larger config epoch without asking the other nodes.",
    "COUNT-FAILURE-REPORTS <node-id>",
    "    Count the masters that say that <node-id> fails.",
    "DELSLOTS <slot> [<slot> ...]",
    "    Let this node know no owner of slots.",
    "DELSLOTSRANGE <start slot> <end slot> [<start slot> <end slot> ...]",
    "    The same for ranges.",
    "FAILOVER [FORCE|TAKEOVER]",
    "    Let this replica take its master's place.",
    "FORGET <node-id>",
    "    Know <node-id> no more.",
    "FLUSHSLOTS",
    "    Let this node have no slots.",
    "MEET <ip> <port> [<bus-port>]",
    "    Let the node at that address into the cluster.",
    "REPLICATE <node-id>",
    "    Become a replica of <node-id>.",
    "RESET [HARD|SOFT]",
    "    Forget the cluster (default: SOFT).",
    "SET-CONFIG-EPOCH <epoch>",
    "    Set the config epoch of a node that is alone.",
    "SETSLOT <slot> (IMPORTING <node-id>|MIGRATING <node-id>|STABLE|NODE <node-id>)",
    "    Say what becomes of <slot>.",
    "SAVECONFIG",
    "    Write the cluster's file.",
    "LINKS",
    "    Describe the links to and from the other nodes.",
    "HELP",
    "    Print this help.",
)


class ClusterCommands(ClusterFamily):
    """What changes the cluster, or how it treats a client; with the texts of HELP."""

    def groups(self) -> Sequence[Group]:
        return (GROUP,)

    def installed(self) -> None:
        if self._cluster is not None:
            restrict_commands(self.engine)
            return
        for command in self.engine.all_commands():
            if command.spec.group == GROUP.name:
                command.handler = _refuse

    def _changed(self, flush: bool = True) -> Status:
        """OK, as soon as the change is on disk, or without ``flush`` noted."""
        cluster = self._mode
        cluster.machine.doubt()
        cluster.saver.save_before_reply(flush)
        return OK

    # Clients.

    @GROUP.command(
        "asking",
        1,
        "fast",
        categories="connection",
        since="3.0.0",
        complexity="O(1)",
        summary="Lets the next command be executed in a slot that is being imported.",
    )
    def asking(self, ctx: Session, argv: list[bytes]) -> Reply:
        """OK."""
        self._mode  # noqa: B018 raises
        if not ctx.in_exec:
            ctx.asking = True
        return OK

    @GROUP.command(
        "readonly",
        1,
        "loading stale fast",
        categories="connection",
        since="3.0.0",
        complexity="O(1)",
        summary="Lets a replica answer reads of this client.",
    )
    def readonly(self, ctx: Session, argv: list[bytes]) -> Reply:
        """OK."""
        self._mode  # noqa: B018 raises
        ctx.read_only = True
        return OK

    @GROUP.command(
        "readwrite",
        1,
        "loading stale fast",
        categories="connection",
        since="3.0.0",
        complexity="O(1)",
        summary="Lets a replica redirect all requests of this client.",
    )
    def readwrite(self, ctx: Session, argv: list[bytes]) -> Reply:
        """OK."""
        self._mode  # noqa: B018 raises
        ctx.read_only = False
        return OK

    def session_reset(self, session: Session) -> None:
        session.asking = False
        session.read_only = False

    # Slots.

    @GROUP.command(
        "cluster|addslots",
        -3,
        ADMIN,
        since="3.0.0",
        complexity="O(N) where N is the total number of hash slot arguments",
        summary="Lets this node have slots.",
        syntax="slot:integer [slot:integer ...]",
    )
    def add_slots(self, ctx: Session, argv: list[bytes]) -> Reply:
        """OK; all or none."""
        return self._assign(_parse_slots(argv[2:]), True)

    @GROUP.command(
        "cluster|delslots",
        -3,
        ADMIN,
        since="3.0.0",
        complexity="O(N) where N is the total number of hash slot arguments",
        summary="Lets this node know no owner of slots.",
        syntax="slot:integer [slot:integer ...]",
    )
    def delete_slots(self, ctx: Session, argv: list[bytes]) -> Reply:
        """OK; all or none."""
        return self._assign(_parse_slots(argv[2:]), False)

    @GROUP.command(
        "cluster|addslotsrange",
        -4,
        ADMIN,
        since="7.0.0",
        complexity=(
            "O(N) where N is the total number of the slots between the start "
            "slot and end slot arguments."
        ),
        summary="Lets this node have ranges of slots.",
        syntax="<start-slot:integer end-slot:integer> [<start-slot:integer end-slot:integer> ...]",
    )
    def add_ranges(self, ctx: Session, argv: list[bytes]) -> Reply:
        """OK; all or none."""
        return self._assign(_parse_ranges(argv), True)

    @GROUP.command(
        "cluster|delslotsrange",
        -4,
        ADMIN,
        since="7.0.0",
        complexity=(
            "O(N) where N is the total number of the slots between the start "
            "slot and end slot arguments."
        ),
        summary="Lets this node know no owner of ranges of slots.",
        syntax="<start-slot:integer end-slot:integer> [<start-slot:integer end-slot:integer> ...]",
    )
    def delete_ranges(self, ctx: Session, argv: list[bytes]) -> Reply:
        """OK; all or none."""
        return self._assign(_parse_ranges(argv), False)

    def _assign(self, slots: list[int], add: bool) -> Reply:
        state = self._mode.state
        seen: set[int] = set()
        for slot in slots:
            if add and state.owners[slot] is not None:
                raise ReplyError(b"ERR Slot %d is already busy" % slot)
            if not add and state.owners[slot] is None:
                raise ReplyError(b"ERR Slot %d is already unassigned" % slot)
            if slot in seen:
                raise ReplyError(b"ERR Slot %d specified multiple times" % slot)
            seen.add(slot)
        for slot in slots:
            if not add:
                state.unassign(slot)
                continue
            # Whoever gives the slot to this node has settled where its keys are.
            state.importing.pop(slot, None)
            state.assign(slot, state.myself)
        # As with SETSLOT: who mends a cluster does this slot by slot.
        return self._changed(flush=False)

    @GROUP.command(
        "cluster|flushslots",
        2,
        ADMIN,
        since="3.0.0",
        complexity="O(1)",
        summary="Lets this node have no slots.",
    )
    def flush_slots(self, ctx: Session, argv: list[bytes]) -> Reply:
        """OK; only without keys."""
        state = self._mode.state
        if self.engine.keyspace.databases[0].count:
            raise ReplyError(b"ERR DB must be empty to perform CLUSTER FLUSHSLOTS.")
        state.unassign_all(state.myself)
        return self._changed()

    @GROUP.command(
        "cluster|setslot",
        -4,
        ADMIN,
        since="3.0.0",
        complexity="O(1)",
        summary="Says what becomes of a slot.",
        syntax="slot:integer <IMPORTING node-id:string | MIGRATING node-id:string | "
        "NODE node-id:string | STABLE>",
    )
    def set_slot(self, ctx: Session, argv: list[bytes]) -> Reply:
        """OK."""
        state = self._mode.state
        if state.myself.is_replica:
            raise ReplyError(b"ERR Please use SETSLOT only with masters.")
        epoch = state.current_epoch
        slot = _parse_slot(argv[2])
        action = argv[3].lower()
        if action == b"migrating" and len(argv) == 5:
            self._begin_migration(slot, argv[4])
        elif action == b"importing" and len(argv) == 5:
            self._begin_import(slot, argv[4])
        elif action == b"stable" and len(argv) == 4:
            state.migrating.pop(slot, None)
            state.importing.pop(slot, None)
        elif action == b"node" and len(argv) == 5:
            self._give_slot(slot, argv[4])
        else:
            raise ReplyError(
                b"ERR Invalid CLUSTER SETSLOT action or number of arguments. Try CLUSTER HELP"
            )
        # A reshard does this five times a slot and thousands of times in all. What is lost if the
        # machine, and not only the process, goes down before it is flushed, a moment later, no node
        # has heard of, and the others and the operator's tool put it right; a new epoch or role is
        # another matter.
        return self._changed(flush=state.current_epoch != epoch or state.myself.is_replica)

    def _begin_migration(self, slot: int, name: bytes) -> None:
        state = self._mode.state
        if state.owners[slot] is not state.myself:
            raise ReplyError(b"ERR I'm not the owner of hash slot %d" % slot)
        node = self._find(name, b"ERR I don't know about node %b")
        if node.is_replica:
            raise ReplyError(b"ERR Target node is not a master")
        state.migrating[slot] = node

    def _begin_import(self, slot: int, name: bytes) -> None:
        state = self._mode.state
        if state.owners[slot] is state.myself:
            raise ReplyError(b"ERR I'm already the owner of hash slot %d" % slot)
        node = self._find(name, b"ERR I don't know about node %b")
        if node.is_replica:
            raise ReplyError(b"ERR Target node is not a master")
        state.importing[slot] = node

    def _give_slot(self, slot: int, name: bytes) -> None:
        cluster = self._mode
        state = cluster.state
        node = self._find(name)
        if node.is_replica:
            raise ReplyError(b"ERR Target node is not a master")
        if state.owners[slot] is state.myself and node is not state.myself:
            if cluster.count_keys(slot):
                raise ReplyError(
                    b"ERR Can't assign hashslot %d to a different node while I still hold keys for "
                    b"this hash slot." % slot
                )
        cluster.machine.set_slot(slot, node, cluster.now())

    # Nodes.

    @GROUP.command(
        "cluster|meet",
        -4,
        ADMIN,
        since="3.0.0",
        complexity="O(1)",
        summary="Lets a node into the cluster.",
        syntax="ip:string port:integer [cluster-bus-port:integer]@4.0.0",
        history=(("4.0.0", "Takes the port of the bus."),),
    )
    def meet(self, ctx: Session, argv: list[bytes]) -> Reply:
        """OK at once; whether there is a node turns out later."""
        cluster = self._mode
        if len(argv) > 5:
            raise subcommand_error(argv)
        port = parse_integer(argv[3])
        if port is None:
            raise ReplyError(b"ERR Invalid base port specified: %b" % argv[3])
        bus_port: int | None = port + 10000
        if len(argv) == 5:
            bus_port = parse_integer(argv[4])
            if bus_port is None:
                raise ReplyError(b"ERR Invalid bus port specified: %b" % argv[4])
        assert bus_port is not None
        refusal = ReplyError(b"ERR Invalid node address specified: %b:%b" % (argv[2], argv[3]))
        try:
            if b"%" in argv[2]:
                raise ValueError("a scope")
            ip = str(ipaddress.ip_address(argv[2].decode("latin-1")))
        except ValueError:
            raise refusal from None
        if not 0 < port <= LARGEST_PORT or not 0 < bus_port <= LARGEST_PORT:
            raise refusal
        cluster.machine.meet(ip, port, bus_port, cluster.now())
        cluster.settle()
        return OK

    @GROUP.command(
        "cluster|forget",
        3,
        ADMIN,
        since="3.0.0",
        complexity="O(1)",
        summary="Lets this node know another one no more.",
        syntax="node-id:string",
        history=(("7.2.0", "Told to the other nodes as well."),),
    )
    def forget(self, ctx: Session, argv: list[bytes]) -> Reply:
        """OK; for a minute the node is not learnt again."""
        cluster = self._mode
        state = cluster.state
        node = state.find(argv[2].decode("latin-1"))
        if node is None:
            if state.is_forgotten(argv[2].decode("latin-1"), cluster.now()):
                return OK  # another node has told us
            raise ReplyError(b"ERR Unknown node %b" % argv[2])
        if node is state.myself:
            raise ReplyError(b"ERR I tried hard but I can't forget myself...")
        if node is state.myself.master:
            raise ReplyError(b"ERR Can't forget my master!")
        cluster.machine.forget(node, cluster.now())
        return self._changed()

    @GROUP.command(
        "cluster|replicate",
        3,
        ADMIN,
        since="3.0.0",
        complexity="O(1)",
        summary="Makes this node a replica.",
        syntax="node-id:string",
    )
    def replicate(self, ctx: Session, argv: list[bytes]) -> Reply:
        """OK at once."""
        cluster = self._mode
        myself = cluster.machine.myself
        node = self._find(argv[2])
        if node is myself:
            raise ReplyError(b"ERR Can't replicate myself")
        if node.is_replica:
            raise ReplyError(b"ERR I can only replicate a master, not a replica.")
        if myself.is_master and (myself.slot_count or self.engine.keyspace.databases[0].count):
            raise ReplyError(
                b"ERR To set a master the node must be empty and without assigned slots."
            )
        cluster.machine.replicate(node, cluster.now())
        return self._changed()

    @GROUP.command(
        "cluster|failover",
        -2,
        ADMIN,
        since="3.0.0",
        complexity="O(1)",
        summary="Lets this replica take its master's place.",
        syntax="[FORCE | TAKEOVER]",
    )
    def fail_over(self, ctx: Session, argv: list[bytes]) -> Reply:
        """OK at once; whether it comes about turns out later."""
        cluster = self._mode
        machine = cluster.machine
        if len(argv) > 3:
            raise subcommand_error(argv)
        word = argv[2].lower() if len(argv) == 3 else b""
        if word not in (b"", b"force", b"takeover"):
            raise ReplyError(SYNTAX_ERROR)
        master = machine.myself.master
        if machine.myself.is_master:
            raise ReplyError(b"ERR You should send CLUSTER FAILOVER to a replica")
        if master is None:
            raise ReplyError(b"ERR I'm a replica but my master is unknown to me")
        if not word and (master.failed or master.link is None or not master.link.open):
            raise ReplyError(b"ERR Master is down or failed, please use CLUSTER FAILOVER FORCE")
        if word == b"takeover":
            machine.now = cluster.now()
            machine.handover.reset()
            machine.log("notice", "Taking over the master (user request).")
            machine.bump_epoch()
            machine.take_over()
        else:
            machine.handover.begin(cluster.now(), force=word == b"force")
        return self._changed()

    @GROUP.command(
        "cluster|reset",
        -2,
        "admin stale noscript",
        since="3.0.0",
        complexity=(
            "O(N) where N is the number of known nodes. The command may execute "
            "a FLUSHALL as a side effect."
        ),
        summary="Lets this node forget the cluster.",
        syntax="[HARD | SOFT]",
    )
    def reset(self, ctx: Session, argv: list[bytes]) -> Reply:
        """OK; a replica loses its data."""
        cluster = self._mode
        machine = cluster.machine
        if len(argv) > 3:
            raise subcommand_error(argv)
        word = argv[2].lower() if len(argv) == 3 else b"soft"
        if word not in (b"hard", b"soft"):
            raise ReplyError(SYNTAX_ERROR)
        db = self.engine.keyspace.databases[0]
        if machine.myself.is_master and db.count:
            raise ReplyError(b"ERR CLUSTER RESET can't be called with master nodes containing keys")
        was_replica = machine.myself.is_replica
        machine.reset(word == b"hard", cluster.now())
        if was_replica:
            db.clear()
            self.engine.keyspace.emptied()
        return self._changed()

    # Epochs, the file.

    @GROUP.command(
        "cluster|bumpepoch",
        2,
        ADMIN,
        since="3.0.0",
        complexity="O(1)",
        summary="Takes a larger config epoch.",
        tips=("nondeterministic_output",),
    )
    def bump_epoch(self, ctx: Session, argv: list[bytes]) -> Reply:
        """``BUMPED`` or ``STILL``, and the epoch."""
        cluster = self._mode
        word = b"BUMPED" if cluster.machine.bump_epoch() else b"STILL"
        self._changed()
        return Status(b"%b %d" % (word, cluster.machine.myself.config_epoch))

    @GROUP.command(
        "cluster|set-config-epoch",
        3,
        ADMIN,
        since="3.0.0",
        complexity="O(1)",
        summary="Sets the config epoch of a node that is alone.",
        syntax="config-epoch:integer",
    )
    def set_epoch(self, ctx: Session, argv: list[bytes]) -> Reply:
        """OK."""
        state = self._mode.state
        epoch = integer(argv[2])
        if epoch < 0:
            raise ReplyError(b"ERR Invalid config epoch specified: %d" % epoch)
        if len(state.nodes) > 1:
            raise ReplyError(
                b"ERR The user can assign a config epoch only when the node does not know any "
                b"other node."
            )
        if state.myself.config_epoch:
            raise ReplyError(b"ERR Node config epoch is already non-zero")
        state.myself.config_epoch = epoch
        state.current_epoch = max(state.current_epoch, epoch)
        self._mode.machine.log("notice", f"configEpoch set to {epoch} via CLUSTER SET-CONFIG-EPOCH")
        return self._changed()

    @GROUP.command(
        "cluster|saveconfig",
        2,
        ADMIN,
        since="3.0.0",
        complexity="O(1)",
        summary="Writes the cluster's file.",
    )
    def save_config(self, ctx: Session, argv: list[bytes]) -> Reply:
        """OK when it is on disk."""
        try:
            self._mode.saver.save_now()
        except OSError as error:
            raise ReplyError(
                b"ERR error saving the cluster node config: %b" % str(error.strerror).encode()
            ) from None
        return OK

    @GROUP.command(
        "cluster|help",
        2,
        "loading stale",
        since="5.0.0",
        complexity="O(1)",
        summary="Prints help about CLUSTER.",
    )
    def help(self, ctx: Session, argv: list[bytes]) -> Reply:
        """Lines of text."""
        self._mode  # noqa: B018 raises
        return [Status(line.encode()) for line in HELP]


def _refuse(ctx: Session, argv: list[bytes]) -> Reply:
    raise ReplyError(DISABLED)


def _parse_slot(argument: bytes) -> int:
    slot = parse_integer(argument)
    if slot is None or not 0 <= slot < SLOTS:
        raise ReplyError(BAD_SLOT)
    return slot


def _parse_slots(arguments: Sequence[bytes]) -> list[int]:
    return [_parse_slot(argument) for argument in arguments]


def _parse_ranges(argv: list[bytes]) -> list[int]:
    """The slots of pairs of bounds, after the subcommand's name."""
    if len(argv) % 2:
        name = b"cluster|" + argv[1].lower()
        raise ReplyError(b"ERR wrong number of arguments for '%b' command" % name)
    slots: list[int] = []
    for i in range(2, len(argv), 2):
        first = _parse_slot(argv[i])
        last = _parse_slot(argv[i + 1])
        if first > last:
            raise ReplyError(
                b"ERR start slot number %d is greater than end slot number %d" % (first, last)
            )
        slots += range(first, last + 1)
    return slots
