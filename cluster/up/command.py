"""The command line of `sentrio up`, and the order of things."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shlex
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import click
import trio

from cluster.tool.connection import Address, Credentials, ErrorReply
from cluster.tool.errors import EXIT_DONE, EXIT_PROBLEMS, Failed, Refused, Unreachable, run_to_end
from cluster.tool.fleet import Fleet, sees
from cluster.tool.forming import create
from cluster.tool.layout import FEWEST_MASTERS
from cluster.tool.picture import Picture
from cluster.up.board import Board, EventDisplay
from cluster.up.processes import Process, start, stop
from cluster.up.sentinels import (
    CLUSTER_NAME,
    CONFIG_NAME,
    adjust,
    ask_sentinels,
    hear_events,
    prepare,
    sentinel_addresses,
    sentinel_home,
)
from cluster.up.status import compare, make_rows, parse_info
from node.files import replace_file
from node.network import SystemNetwork

HOST: Final = "127.0.0.1"
PLAN_NAME: Final = "up.json"
LOCK_NAME: Final = "up.lock"
BUS_DISTANCE: Final = 10000
PROGRAM: Final = [sys.executable, str(Path(__file__).resolve().parents[2] / "sentrio.py")]
"""Not by `-m`: the processes run in folders of their own, where a checkout is not found."""
OWN_NODE: Final = [*PROGRAM, "node"]
OWN_SENTINEL: Final = [*PROGRAM, "sentinel"]
NODE_TIMEOUT: Final = 5000
START_LIMIT: Final = 600.0
"""Seconds until all nodes answer; loading much data takes its time."""
RESUME_LIMIT: Final = 15.0
"""Seconds until the nodes of a cluster that is resumed have found each other."""
WATCH_INTERVAL: Final = 1.0
POLL_INTERVAL: Final = 0.05
REPLY_TIMEOUT: Final = 5.0


@dataclass(frozen=True, slots=True)
class Shape:
    """What a folder's cluster is like."""

    shards: int
    replicas: int
    port: int

    def __str__(self) -> str:
        each = "1 replica" if self.replicas == 1 else f"{self.replicas or 'no'} replicas"
        return f"{self.shards} shards with {each} each"

    @property
    def addresses(self) -> list[Address]:
        """Where its nodes listen."""
        count = self.shards * (self.replicas + 1)
        return [Address(HOST, self.port + n) for n in range(count)]


@dataclass(frozen=True, slots=True)
class Watch:
    """The sentinels: where they listen, and after how many milliseconds a node is down to them."""

    addresses: Sequence[Address]
    down_after: int


@click.command(
    epilog="Exit codes: 0 ended by Ctrl-C or SIGTERM; 1 nodes did not start, or all have ended; "
    "2 usage; 4 refused (the folder holds another cluster, or is in use)."
)
@click.option(
    "--shards",
    type=click.IntRange(min=FEWEST_MASTERS),
    default=3,
    show_default=True,
    help="How many masters.",
)
@click.option(
    "--replicas",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="How many replicas each of them has.",
)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=7000,
    show_default=True,
    help="The first node's; the others follow. The bus takes the ports 10000 above.",
)
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("sentrio-cluster"),
    show_default=True,
    help="Where the nodes keep their data. A cluster that is there is resumed.",
)
@click.option(
    "--node-command",
    default="",
    envvar="SENTRIO_UP_NODE",
    metavar="COMMAND",
    help="What starts a node, instead of this program's own (redis-server, say).",
)
@click.option(
    "--sentinels",
    type=click.IntRange(min=0),
    default=3,
    show_default=True,
    help="How many sentinels guard it, on the ports 20000 above. With 0, the nodes fail over by "
    "themselves.",
)
@click.option(
    "--down-after",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    metavar="MS",
    help="How long a node must be silent before the sentinels take it to be down.",
)
@click.argument("directives", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def up(
    context: click.Context,
    shards: int,
    replicas: int,
    port: int,
    folder: Path,
    node_command: str,
    sentinels: int,
    down_after: int,
    directives: tuple[str, ...],
) -> None:
    """Run a whole cluster on this machine, until Ctrl-C.

    DIRECTIVES, after a --, go to every node: `sentrio up -- --maxmemory 1gb`.
    """
    shape = Shape(shards, replicas, port)
    if shape.addresses[-1].port + BUS_DISTANCE > 65535:
        raise click.UsageError("The ports of the bus, 10000 above, would be beyond 65535.")
    watch = Watch(sentinel_addresses(shape.addresses[0], sentinels), down_after)
    if sentinels and watch.addresses[-1].port > 65535:
        raise click.UsageError("The ports of the sentinels, 20000 above, would be beyond 65535.")
    words = shlex.split(node_command) if node_command else OWN_NODE
    board = Board()

    def work() -> int:
        with claim_folder(folder, shape), board:
            return trio.run(run, shape, watch, folder, words, directives, board)

    context.exit(run_to_end(work, board.tell))


@contextlib.contextmanager
def claim_folder(folder: Path, shape: Shape) -> Iterator[None]:
    """Have the folder for this cluster alone. Raises Refused."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise Refused(f"{folder}: {error.strerror}") from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Refused(f"{folder} is in use by another `sentrio up`") from None
        plan = folder / PLAN_NAME
        wanted = asdict(shape)
        try:
            found = json.loads(plan.read_text())
        except FileNotFoundError:
            replace_file(str(plan), (json.dumps(wanted) + "\n").encode())
        except (OSError, ValueError) as error:
            raise Refused(f"{plan} cannot be read: {error}") from None
        else:
            if found != wanted:
                options = " ".join(f"--{name} {value}" for name, value in found.items())
                raise Refused(f"{folder} holds a cluster made with {options}")
        yield
    finally:
        os.close(lock)


def node_words(
    command: Sequence[str], address: Address, guarded: bool, directives: Sequence[str]
) -> list[str]:
    """The command line of one node, which runs in its own folder.

    Where sentinels guard it, its replicas do not take over by themselves.
    """
    return [
        *command,
        *("--port", str(address.port), "--bind", address.host),
        *("--cluster-enabled", "yes", "--cluster-node-timeout", str(NODE_TIMEOUT)),
        *("--cluster-replica-no-failover", "yes" if guarded else "no"),
        *("--appendonly", "yes"),
        *directives,
    ]


def node_home(folder: Path, address: Address) -> Path:
    """Where a node lives."""
    return folder.absolute() / str(address.port)


async def run(
    shape: Shape,
    watch: Watch,
    folder: Path,
    command: Sequence[str],
    directives: Sequence[str],
    board: Board,
) -> int:
    """Start, form, watch, and end everything; the exit code. Raises ToolError."""
    processes: list[Process] = []
    sentinels: list[Process] = []
    code = EXIT_DONE
    work = trio.CancelScope()
    ending = trio.CancelScope(shield=True)
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_heed, signals, work, ending, board)
            try:
                with work:
                    for address in shape.addresses:
                        words = node_words(command, address, bool(watch.addresses), directives)
                        home = node_home(folder, address)
                        processes.append(_start(words, home, address, board))
                    code = await _attend(shape, watch, folder, processes, sentinels, board)
            finally:
                with ending:
                    # The sentinels first, so that they do not take the end for an outage.
                    for group in (sentinels, processes):
                        for process in await stop(group):
                            board.tell(f"{process.address} did not end, and has been killed")
                if processes:
                    board.tell("All nodes have ended; their data stay")
            nursery.cancel_scope.cancel()
    return code


async def _heed(
    signals: AsyncIterator[int], work: trio.CancelScope, ending: trio.CancelScope, board: Board
) -> None:
    """The first signal ends the nodes in good order, another one at once."""
    async for number in signals:
        if work.cancel_called:
            board.tell("Killing all nodes")
            ending.cancel()
        else:
            board.tell(f"{signal.Signals(number).name}: ending all nodes")
            work.cancel()


async def _attend(
    shape: Shape,
    watch: Watch,
    folder: Path,
    processes: Sequence[Process],
    sentinels: list[Process],
    board: Board,
) -> int:
    """Form the cluster, have it guarded, and watch it; the exit code, should it end by itself."""
    network = SystemNetwork()
    fleet = Fleet(network, shape.addresses[0], Credentials(), REPLY_TIMEOUT)
    try:
        await _await_answers(fleet, processes)
        await _form(fleet, shape, board)
        await _guard(fleet, shape, watch, folder, sentinels, board)
        async with trio.open_nursery() as nursery:
            if sentinels:
                nursery.start_soon(hear_events, network, sentinels, board.tell)
            code = await _watch(fleet, shape, processes, sentinels, board)
            nursery.cancel_scope.cancel()
        return code
    finally:
        fleet.close()


def _start(words: Sequence[str], home: Path, address: Address, board: Board) -> Process:
    try:
        process = start(words, home, address)
    except OSError as error:
        raise Failed(f"{words[0]}: {error.strerror}") from None
    board.tell(f"{address} started, process {process.pid}, {home}")
    return process


async def _guard(
    fleet: Fleet,
    shape: Shape,
    watch: Watch,
    folder: Path,
    sentinels: list[Process],
    board: Board,
) -> None:
    """Start the sentinels, if there are to be any. Raises Failed."""
    try:
        prepare(folder, shape.addresses[0], watch.addresses, watch.down_after)
    except OSError as error:
        raise Failed(f"{folder}: {error.strerror}") from None
    for address in watch.addresses:
        home = sentinel_home(folder, address)
        words = [*OWN_SENTINEL, str(home / CONFIG_NAME)]
        sentinels.append(_start(words, home, address, board))
    await _await_answers(fleet, sentinels)
    for process in sentinels:
        await adjust(fleet, process, watch.down_after)
    if sentinels:
        place = f"-p {watch.addresses[0].port} SENTINEL CLUSTER {CLUSTER_NAME}"
        board.tell(f"{len(sentinels)} sentinels guard it: redis-cli {place}")


async def _await_answers(fleet: Fleet, processes: Sequence[Process]) -> None:
    """Until all nodes have loaded their data. Raises Failed."""
    deadline = trio.current_time() + START_LIMIT
    for process in processes:
        while True:
            if any(other.look() or other.ended for other in processes):
                other = next(other for other in processes if other.ended)
                raise Failed(f"{other.address} has {other.ended}; its log ends in\n{other.tail()}")
            try:
                await fleet.call(process.address, "PING")
                break
            except (Unreachable, ErrorReply) as error:
                if trio.current_time() > deadline:
                    raise Failed(f"{process.address} does not answer: {error}") from None
            await trio.sleep(POLL_INTERVAL)


async def _form(fleet: Fleet, shape: Shape, board: Board) -> None:
    """Form the cluster, unless it was before, however it may look by now."""
    picture = await fleet.survey()
    whole = not picture.uncovered() and all(
        sees(member.view, picture.members) for member in picture.members.values()
    )
    if whole and len(picture.members) >= len(shape.addresses):
        board.tell(f"The cluster of {len(picture.members)} nodes is resumed")
        with contextlib.suppress(Failed):
            await fleet.wait_for(
                lambda now: all(member.state == "ok" for member in now.members.values()),
                "The cluster is not well",
                RESUME_LIMIT,
            )
    else:
        await create(fleet, shape.addresses, shape.replicas, EventDisplay(board))
    board.tell(f"Connect with: redis-cli -c -p {shape.port}")


async def _watch(
    fleet: Fleet,
    shape: Shape,
    processes: Sequence[Process],
    sentinels: Sequence[Process],
    board: Board,
) -> int:
    """Show how the nodes are, until none is left; the exit code then."""
    first = True
    while True:
        for process in (*processes, *sentinels):
            if process.look():
                verb = "has been" if process.ended.startswith("killed") else "has"
                board.tell(f"{process.address} {verb} {process.ended}; it is not started again")
            try:
                if process.heed_request():
                    board.tell(f"{process.address} started again, process {process.pid}")
            except OSError as error:
                board.tell(f"{process.address} is not started again: {error.strerror}")
        alive = [process.address for process in processes if not process.ended]
        if not alive:
            board.tell("No node is left")
            return EXIT_PROBLEMS
        fleet.entry = alive[0]
        picture, infos = await _ask(fleet)
        ended = {process.address: process.ended for process in processes if process.ended}
        rows = make_rows(picture, infos, ended, alive)
        rows += await ask_sentinels(fleet, sentinels)
        before = board.rows
        board.show(rows, f"{shape}; Ctrl-C ends all")
        if not first:
            for event in compare(before, rows):
                board.tell(event)
        first = False
        await trio.sleep(WATCH_INTERVAL)


async def _ask(fleet: Fleet) -> tuple[Picture | None, dict[str, dict[str, str]]]:
    try:
        picture = await fleet.survey()
    except (Unreachable, Refused):
        return None, {}
    answers = await fleet.ask_all(picture.members.values(), [["INFO"]])
    return picture, {
        node_id: parse_info(replies[0])
        for node_id, replies in answers.items()
        if not isinstance(replies, Unreachable)
    }
