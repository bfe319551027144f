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

from cluster.tool.commands import find_failure
from cluster.tool.connection import Address, Credentials, ErrorReply
from cluster.tool.errors import EXIT_DONE, EXIT_PROBLEMS, Failed, Refused, ToolError, Unreachable
from cluster.tool.fleet import Fleet, sees
from cluster.tool.forming import create
from cluster.tool.layout import FEWEST_MASTERS
from cluster.tool.picture import Picture
from cluster.up.board import Board, EventDisplay
from cluster.up.processes import Process, start, stop
from cluster.up.status import compare, make_rows, parse_info
from node.files import replace_file
from node.network import SystemNetwork

HOST: Final = "127.0.0.1"
PLAN_NAME: Final = "up.json"
LOCK_NAME: Final = "up.lock"
BUS_DISTANCE: Final = 10000
OWN_NODE: Final = [sys.executable, str(Path(__file__).resolve().parents[2] / "sentrio.py"), "node"]
"""Not by `-m`: the nodes run in folders of their own, where a checkout is not found."""
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
@click.argument("directives", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def up(
    context: click.Context,
    shards: int,
    replicas: int,
    port: int,
    folder: Path,
    node_command: str,
    directives: tuple[str, ...],
) -> None:
    """Run a whole cluster on this machine, until Ctrl-C.

    DIRECTIVES, after a --, go to every node: `sentrio up -- --maxmemory 1gb`.
    """
    shape = Shape(shards, replicas, port)
    if shape.addresses[-1].port + BUS_DISTANCE > 65535:
        raise click.UsageError("The ports of the bus, 10000 above, would be beyond 65535.")
    words = shlex.split(node_command) if node_command else OWN_NODE
    board = Board()
    try:
        with claim_folder(folder, shape), board:
            code = trio.run(run, shape, folder, words, directives, board)
    except BaseException as raised:
        error = find_failure(raised)
        if not isinstance(error, ToolError):
            raise error from None
        board.tell(f"Error: {error}")
        code = error.exit_code
    context.exit(code)


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


def node_words(command: Sequence[str], address: Address, directives: Sequence[str]) -> list[str]:
    """The command line of one node, which runs in its own folder."""
    return [
        *command,
        *("--port", str(address.port), "--bind", address.host),
        *("--cluster-enabled", "yes", "--cluster-node-timeout", str(NODE_TIMEOUT)),
        *("--appendonly", "yes"),
        *directives,
    ]


async def run(
    shape: Shape, folder: Path, command: Sequence[str], directives: Sequence[str], board: Board
) -> int:
    """Start, form, watch, and end everything; the exit code. Raises ToolError."""
    processes: list[Process] = []
    code = EXIT_DONE
    work = trio.CancelScope()
    ending = trio.CancelScope(shield=True)
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_heed, signals, work, ending, board)
            try:
                with work:
                    _start_all(shape, folder, command, directives, processes, board)
                    code = await _attend(shape, processes, board)
            finally:
                with ending:
                    for process in await stop(processes):
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


async def _attend(shape: Shape, processes: Sequence[Process], board: Board) -> int:
    """Form the cluster and watch it; the exit code, should it end by itself."""
    fleet = Fleet(SystemNetwork(), shape.addresses[0], Credentials(), REPLY_TIMEOUT)
    try:
        await _await_answers(fleet, processes)
        await _form(fleet, shape, board)
        return await _watch(fleet, shape, processes, board)
    finally:
        fleet.close()


def _start_all(
    shape: Shape,
    folder: Path,
    command: Sequence[str],
    directives: Sequence[str],
    processes: list[Process],
    board: Board,
) -> None:
    for address in shape.addresses:
        home = folder.absolute() / str(address.port)
        try:
            processes.append(start(node_words(command, address, directives), home, address))
        except OSError as error:
            raise Failed(f"{command[0]}: {error.strerror}") from None
        board.tell(f"{address} started, process {processes[-1].pid}, {home}")


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


async def _watch(fleet: Fleet, shape: Shape, processes: Sequence[Process], board: Board) -> int:
    """Show how the nodes are, until none is left; the exit code then."""
    first = True
    while True:
        for process in processes:
            if process.look():
                verb = "has been" if process.ended.startswith("killed") else "has"
                board.tell(f"{process.address} {verb} {process.ended}; it is not started again")
        alive = [process.address for process in processes if not process.ended]
        if not alive:
            board.tell("No node is left")
            return EXIT_PROBLEMS
        fleet.entry = alive[0]
        picture, infos = await _ask(fleet)
        ended = {process.address: process.ended for process in processes if process.ended}
        rows = make_rows(picture, infos, ended, alive)
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
