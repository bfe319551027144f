"""The command line of `sentrio cluster`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import trio

from cluster.tool import (
    backup,
    fixing,
    forming,
    importing,
    inspecting,
    reshaping,
)
from cluster.tool.batches import MOST_KEYS, ROUND_BYTES
from cluster.tool.connection import Address, Credentials, parse_address
from cluster.tool.display import Display
from cluster.tool.errors import (
    EXIT_DONE,
    EXIT_INTERRUPTED,
    EXIT_PROBLEMS,
    ToolError,
    find_failure,
)
from cluster.tool.fleet import Fleet
from cluster.tool.journal import default_folder
from cluster.tool.mover import OWNER, PATIENCE, REPORT, STRAY, MoveOptions
from cluster.tool.view import parse_ranges
from node.network import SystemNetwork

F = TypeVar("F", bound=Callable[..., Any])
Outcome = Any  # the JSON document, or a pair of it and whether all is well

EPILOG = """\
Exit codes: 0 done, or all is well; 1 the cluster has problems, or the work stopped half-way (the
same command continues it); 2 usage; 3 no node can be reached; 4 refused, nothing was changed; 5 the
plan was not confirmed; 130 interrupted.
"""


def read_address(text: str) -> Address:
    """`host:port`; a port alone is on this machine."""
    try:
        return parse_address(f"127.0.0.1:{text}" if text.isdigit() else text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def read_slots(text: str) -> int | tuple[int, ...]:
    """A number of slots, or which ones: `0-99,200`."""
    try:
        return int(text) if text.isdigit() else tuple(parse_ranges(text))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def read_weight(text: str) -> tuple[str, float]:
    """`node=weight`."""
    node, _, weight = text.rpartition("=")
    try:
        number = float(weight)
    except ValueError:
        number = -1.0
    if not node or not 0 <= number < float("inf"):
        raise click.BadParameter(f"'{text}' is not node=weight")
    return node, number


@click.group(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
def cluster() -> None:
    """Create, inspect, mend and reshape a cluster, of Sentrio's nodes or of Redis's.

    Any node that is a member will do as the way in.
    """


def common(function: F) -> F:
    """The options that all commands have."""
    options = [
        click.option("--user", default="", help="The user to authenticate as."),
        click.option(
            "-a",
            "--password",
            default="",
            envvar=["SENTRIO_AUTH", "REDISCLI_AUTH"],
            help="The nodes' password; better put it into SENTRIO_AUTH or REDISCLI_AUTH.",
        ),
        click.option("--askpass", is_flag=True, help="Ask for the password."),
        click.option(
            "--timeout",
            type=click.FloatRange(min=0, min_open=True),
            default=5.0,
            show_default=True,
            metavar="SECONDS",
            help="How long a node may take to answer.",
        ),
        click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def guarded(function: F) -> F:
    """The option of commands that also ask a sentinel."""
    return click.option(
        "--sentinel",
        type=read_address,
        default=None,
        metavar="HOST:PORT",
        help="Also show what this sentinel says, which guards the cluster.",
    )(function)


def changing(function: F) -> F:
    """The options of commands that change something."""
    options = [
        click.option("--yes", is_flag=True, help="Do not ask whether to go on."),
        click.option("--dry-run", is_flag=True, help="Show the plan, and change nothing."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def moving(function: F) -> F:
    """The options of commands that move keys."""
    options = [
        click.option(
            "--migrate-timeout",
            type=click.IntRange(min=1),
            default=60000,
            show_default=True,
            metavar="MS",
            help="MIGRATE's timeout.",
        ),
        click.option(
            "--pipeline",
            type=click.IntRange(min=1),
            default=MOST_KEYS,
            show_default=True,
            metavar="KEYS",
            help="Most keys that move at once; how many do follows from how long that takes.",
        ),
        click.option(
            "--round-bytes",
            type=click.IntRange(min=1),
            default=ROUND_BYTES,
            show_default=True,
            metavar="BYTES",
            help="About the most bytes that move at once; a larger key moves alone.",
        ),
        click.option(
            "--patience",
            type=click.FloatRange(min=0, min_open=True),
            default=PATIENCE,
            show_default=True,
            metavar="SECONDS",
            help="Give up after so long without any progress.",
        ),
    ]
    for option in reversed(options):
        function = option(function)
    return function


class Run:
    """One run of a command: its options, and how it ends."""

    def __init__(self, options: dict[str, Any], entry: Address) -> None:
        self.network = SystemNetwork()
        self.display = Display(
            as_json=options.pop("as_json"),
            yes=options.pop("yes", False),
            dry_run=options.pop("dry_run", False),
        )
        password = options.pop("password")
        user = options.pop("user")
        if options.pop("askpass"):
            password = click.prompt("Password", hide_input=True, err=True)
        if user and not password:
            raise click.UsageError("A user takes a password (-a, --askpass, SENTRIO_AUTH).")
        self.fleet = Fleet(self.network, entry, Credentials(user, password), options.pop("timeout"))

    def __call__(self, work: Callable[[], Awaitable[Outcome]]) -> None:
        """Do the work; ends the process with the code for how that went."""
        code = EXIT_DONE
        try:
            outcome = trio.run(self._work, work)
        except BaseException as raised:
            error = find_failure(raised)
            if isinstance(error, ToolError):
                code, text = error.exit_code, str(error)
            elif isinstance(error, KeyboardInterrupt):
                code, text = EXIT_INTERRUPTED, "Interrupted; the same command goes on from here"
            else:
                raise error from None
            self.display.bad(text)
            self.display.emit({"error": text, "exit_code": code})
        else:
            document, well = outcome if isinstance(outcome, tuple) else (outcome, True)
            code = EXIT_DONE if well else EXIT_PROBLEMS
            self.display.emit(document)
        click.get_current_context().exit(code)

    async def _work(self, work: Callable[[], Awaitable[Outcome]]) -> Outcome:
        try:
            return await work()
        finally:
            self.fleet.close()


def take_move_options(options: dict[str, Any], conflicts: str) -> MoveOptions:
    """The part of the options that is about moving keys."""
    return MoveOptions(
        timeout=options.pop("migrate_timeout"),
        most_keys=options.pop("pipeline"),
        round_bytes=options.pop("round_bytes"),
        patience=options.pop("patience"),
        conflicts=conflicts,
    )


@cluster.command(epilog=EPILOG)
@click.argument("nodes", type=read_address, nargs=-1, required=True)
@click.option(
    "--replicas",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Replicas of each master; they are put on other hosts than their master if possible.",
)
@changing
@common
def create(nodes: tuple[Address, ...], replicas: int, **options: Any) -> None:
    """Form a cluster of empty nodes.

    Run again, it says that the cluster is formed, or completes what had stopped half-way.
    """
    run = Run(options, nodes[0])
    run(lambda: forming.create(run.fleet, nodes, replicas, run.display))


@cluster.command(epilog=EPILOG)
@click.argument("entry", type=read_address)
@click.option(
    "--strays/--no-strays",
    default=True,
    show_default=True,
    help="Also look for keys on nodes that do not have their slot.",
)
@click.option("--strict", is_flag=True, help="Warnings count as problems.")
@guarded
@common
def check(
    entry: Address, strays: bool, strict: bool, sentinel: Address | None, **options: Any
) -> None:
    """Look for everything that may be wrong; exit code 1 if something is."""
    run = Run(options, entry)
    run(lambda: inspecting.check(run.fleet, strays, strict, sentinel, run.display))


@cluster.command(epilog=EPILOG)
@click.argument("entry", type=read_address)
@click.option(
    "--fix-with-unreachable-masters",
    is_flag=True,
    help="Give the slots of masters that cannot be reached to others. Loses their keys.",
)
@click.option(
    "--conflicts",
    type=click.Choice([REPORT, STRAY, OWNER]),
    default=REPORT,
    show_default=True,
    help="Which one stays of two keys with different values, on a slot's owner and elsewhere.",
)
@click.option("--replace", is_flag=True, help="The same as --conflicts stray.")
@moving
@changing
@common
def fix(
    entry: Address,
    fix_with_unreachable_masters: bool,
    conflicts: str,
    replace: bool,
    **options: Any,
) -> None:
    """Mend open slots, uncovered slots, stray keys and disagreement."""
    moves = take_move_options(options, STRAY if replace else conflicts)
    run = Run(options, entry)
    run(lambda: fixing.fix(run.fleet, moves, fix_with_unreachable_masters, run.display))


@cluster.command(epilog=EPILOG)
@click.argument("entry", type=read_address)
@guarded
@common
def info(entry: Address, sentinel: Address | None, **options: Any) -> None:
    """Keys, slots and replicas of each master."""
    run = Run(options, entry)
    run(lambda: inspecting.inform(run.fleet, sentinel, run.display))


@cluster.command(epilog=EPILOG)
@click.argument("entry", type=read_address)
@common
def nodes(entry: Address, **options: Any) -> None:
    """All nodes: role, slots, keys, epoch, id."""
    run = Run(options, entry)
    run(lambda: inspecting.list_nodes(run.fleet, run.display))


@cluster.command("add-node", epilog=EPILOG)
@click.argument("new", type=read_address)
@click.argument("entry", type=read_address)
@click.option(
    "--replica", is_flag=True, help="As a replica, of the master with the fewest of them."
)
@click.option("--master-id", default="", help="As a replica of this master.")
@changing
@common
def add_node(new: Address, entry: Address, replica: bool, master_id: str, **options: Any) -> None:
    """Make the empty node NEW a member of the cluster of ENTRY."""
    run = Run(options, entry)
    run(lambda: forming.add_node(run.fleet, new, replica, master_id, run.display))


@cluster.command("del-node", epilog=EPILOG)
@click.argument("entry", type=read_address)
@click.argument("node")
@changing
@common
def del_node(entry: Address, node: str, **options: Any) -> None:
    """Take NODE (an id, its beginning, or host:port) out; it must not have slots."""
    run = Run(options, entry)
    run(lambda: forming.del_node(run.fleet, node, run.display))


@cluster.command(epilog=EPILOG)
@click.argument("entry", type=read_address)
@click.option("--from", "sources", default="", help="Masters, by commas; all: all others.")
@click.option("--to", "target", default="", help="The master that gets the slots.")
@click.option(
    "--slots", type=read_slots, metavar="NUMBER|RANGES", help="How many slots, or which: 0-99,200."
)
@click.option("--replace", is_flag=True, help="Keys that the target has already are replaced.")
@click.option("--anew", is_flag=True, help="Do not go on with an interrupted reshard.")
@click.option(
    "--journal",
    type=click.Path(path_type=Path, file_okay=False),
    default=default_folder,
    help="Where the plan is kept until it is carried out.  [default: ~/.local/state/sentrio]",
)
@moving
@changing
@common
def reshard(
    entry: Address,
    sources: str,
    target: str,
    slots: int | tuple[int, ...] | None,
    replace: bool,
    anew: bool,
    journal: Path,
    **options: Any,
) -> None:
    """Move slots to one master.

    Interrupted, and run again in the same way, it goes on with what is left of its plan.
    """
    moves = take_move_options(options, STRAY if replace else REPORT)
    request = reshaping.ReshardRequest(
        sources=sources,
        target=target,
        count=slots if isinstance(slots, int) else None,
        slots=slots if isinstance(slots, tuple) else (),
        journal=journal,
        anew=anew,
    )
    run = Run(options, entry)
    run(lambda: reshaping.reshard(run.fleet, request, moves, run.display))


@cluster.command(epilog=EPILOG)
@click.argument("entry", type=read_address)
@click.option(
    "--weight",
    "weights",
    type=read_weight,
    metavar="NODE=WEIGHT",
    multiple=True,
    help="How much a master gets, 1 if not given; 0 empties it. May be repeated.",
)
@click.option(
    "--threshold",
    type=click.FloatRange(min=0),
    default=2.0,
    show_default=True,
    metavar="PERCENT",
    help="Do nothing if no master is off by more.",
)
@click.option("--use-empty-masters", is_flag=True, help="Masters without slots get some, too.")
@click.option("--simulate", is_flag=True, help="The same as --dry-run.")
@click.option("--replace", is_flag=True, help="Keys that a target has already are replaced.")
@moving
@changing
@common
def rebalance(
    entry: Address,
    weights: tuple[tuple[str, float], ...],
    threshold: float,
    use_empty_masters: bool,
    simulate: bool,
    replace: bool,
    **options: Any,
) -> None:
    """Move slots so that each master has as many as its weight says."""
    moves = take_move_options(options, STRAY if replace else REPORT)
    options["dry_run"] = options["dry_run"] or simulate
    run = Run(options, entry)
    run(
        lambda: reshaping.rebalance(
            run.fleet, dict(weights), threshold, use_empty_masters, moves, run.display
        )
    )


@cluster.command("set-timeout", epilog=EPILOG)
@click.argument("entry", type=read_address)
@click.argument("milliseconds", type=int)
@click.option("--dry-run", is_flag=True, help="Change nothing.")
@common
def set_timeout(entry: Address, milliseconds: int, **options: Any) -> None:
    """Set cluster-node-timeout on all nodes."""
    run = Run(options, entry)
    run(lambda: inspecting.set_timeout(run.fleet, milliseconds, run.display))


@cluster.command(epilog=EPILOG)
@click.argument("entry", type=read_address)
@click.argument("replica", default="")
@click.option("--force", is_flag=True, help="Even if the master does not answer.")
@click.option("--takeover", is_flag=True, help="Even if no majority of masters answers.")
@click.option(
    "--wait",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How long it may take.",
)
@changing
@common
def failover(
    entry: Address, replica: str, force: bool, takeover: bool, wait: float, **options: Any
) -> None:
    """Make REPLICA (ENTRY itself, if none is named) the master in place of its master."""
    if force and takeover:
        raise click.UsageError("--force and --takeover exclude each other.")
    how = "FORCE" if force else "TAKEOVER" if takeover else ""
    run = Run(options, entry)
    name = replica or str(entry)
    run(lambda: forming.fail_over(run.fleet, name, how, wait, run.display))


@cluster.command(
    epilog=EPILOG,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.option("--only-masters", is_flag=True, help="Only on masters.")
@click.option("--only-replicas", is_flag=True, help="Only on replicas.")
@click.option("--dry-run", is_flag=True, help="Only say on which nodes.")
@common
@click.argument("entry", type=read_address)
@click.argument("words", nargs=-1, required=True, type=click.UNPROCESSED)
def call(
    entry: Address, words: tuple[str, ...], only_masters: bool, only_replicas: bool, **options: Any
) -> None:
    """Send a command to all nodes. Options stand before ENTRY."""
    if only_masters and only_replicas:
        raise click.UsageError("--only-masters and --only-replicas exclude each other.")
    only = "masters" if only_masters else "replicas" if only_replicas else ""
    run = Run(options, entry)
    run(lambda: inspecting.call_all(run.fleet, words, only, run.display))


@cluster.command("import", epilog=EPILOG)
@click.argument("entry", type=read_address)
@click.option(
    "--from",
    "source",
    type=read_address,
    metavar="HOST:PORT",
    required=True,
    help="The server to import from.",
)
@click.option("--from-user", default="", help="The user there.")
@click.option("--from-password", default="", envvar="SENTRIO_FROM_AUTH", help="The password there.")
@click.option("--from-askpass", is_flag=True, help="Ask for the password there.")
@click.option("--copy", is_flag=True, help="The server keeps its keys.")
@click.option("--replace", is_flag=True, help="Keys that the cluster has already are replaced.")
@moving
@changing
@common
def import_(
    entry: Address,
    source: Address,
    from_user: str,
    from_password: str,
    from_askpass: bool,
    copy: bool,
    replace: bool,
    **options: Any,
) -> None:
    """Move the keys of a server that is no cluster into the cluster."""
    if from_askpass:
        from_password = click.prompt("Password of the source", hide_input=True, err=True)
    moves = take_move_options(options, REPORT)
    credentials = Credentials(from_user, from_password)
    run = Run(options, entry)
    run(
        lambda: importing.import_keys(
            run.fleet, run.network, source, credentials, copy, replace, moves, run.display
        )
    )


@cluster.command("backup", epilog=EPILOG)
@click.argument("entry", type=read_address)
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--dry-run", is_flag=True, help="Only say what would be written.")
@common
def backup_(entry: Address, folder: Path, **options: Any) -> None:
    """Write an RDB file of each master and the layout of the cluster to FOLDER."""
    run = Run(options, entry)
    run(lambda: backup.back_up(run.fleet, folder, run.display))
