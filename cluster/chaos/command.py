"""The command line of `sentrio chaos`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click
import trio

from cluster.chaos import timeline
from cluster.chaos.containers import Containers
from cluster.chaos.processes import Processes
from cluster.chaos.report import Allowance, Report, as_json, write_text
from cluster.chaos.run import Chaos, Settings, announce
from cluster.chaos.schedule import KINDS, Fault, draw_schedule
from cluster.chaos.target import Target
from cluster.chaos.workload import ROLES
from cluster.tool.connection import Credentials
from cluster.tool.errors import EXIT_DONE, EXIT_PROBLEMS, Refused, run_to_end
from node.files import replace_file
from node.network import SystemNetwork

MOST_SEED = 2**31 - 1


def read_kinds(_context: click.Context, _option: click.Parameter, text: str) -> list[str]:
    """`kill,stop`."""
    kinds = [word.strip() for word in text.split(",")]
    for kind in kinds:
        if kind not in KINDS:
            raise click.BadParameter(f"'{kind}' is none of {', '.join(KINDS)}")
    return kinds


@click.command(
    epilog="Exit codes: 0 nothing was lost beyond what is allowed, and all is whole; 1 something "
    "was, or is not; 2 usage; 3 no node can be reached; 4 refused (no such cluster, or it was not "
    "whole before).",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("sentrio-cluster"),
    show_default=True,
    help="The folder of a `sentrio up` that runs.",
)
@click.option(
    "--compose",
    is_flag=True,
    help="Harm the cluster of the compose file instead, by way of the client `docker`.",
)
@click.option(
    "--project", default="", metavar="NAME", help="Which compose project, if there are several."
)
@click.option(
    "--seed", type=click.IntRange(0, MOST_SEED), default=1, show_default=True, help="Draws it all."
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=5),
    default=60.0,
    show_default=True,
    help="How long; faults end within that.",
)
@click.option(
    "--faults", "most", type=click.IntRange(min=1), default=None, help="So many faults instead."
)
@click.option(
    "--pause",
    type=click.FloatRange(min=0),
    default=3.0,
    show_default=True,
    metavar="SECONDS",
    help="Between two faults, to twice as much.",
)
@click.option(
    "--length",
    type=(click.FloatRange(min=0), click.FloatRange(min=0)),
    default=(2.0, 8.0),
    show_default=True,
    metavar="LEAST MOST",
    help="Seconds that a fault lasts.",
)
@click.option(
    "--kinds",
    callback=read_kinds,
    default=",".join(KINDS),
    show_default=True,
    help="Which kinds of faults.",
)
@click.option("--dry-run", is_flag=True, help="Show the schedule, and do nothing.")
@click.option(
    "--rate",
    type=click.FloatRange(min=1),
    default=200.0,
    show_default=True,
    help="Operations a second, of all clients together.",
)
@click.option(
    "--clients",
    type=click.IntRange(min=ROLES),
    default=2 * ROLES,
    show_default=True,
    help="How many write and read.",
)
@click.option(
    "--wait-replicas",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="Count a write as acknowledged when so many replicas have it (WAIT).",
)
@click.option(
    "--allow-lost",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="How many acknowledged writes may be lost or duplicated.",
)
@click.option(
    "--allow-stale",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="How many reads may be stale.",
)
@click.option(
    "--patience",
    type=click.FloatRange(min=1),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long the cluster may take to be whole again before the next fault, and at the end.",
)
@click.option("--keep", is_flag=True, help="Keep the keys (chaos:...), which are deleted else.")
@click.option("--user", default="", help="The user to authenticate as.")
@click.option(
    "-a",
    "--password",
    default="",
    envvar=["SENTRIO_AUTH", "REDISCLI_AUTH"],
    help="The nodes' password; better put it into SENTRIO_AUTH or REDISCLI_AUTH.",
)
@click.option("--json", "is_json", is_flag=True, help="One JSON document on stdout.")
@click.option(
    "--svg",
    type=click.Path(path_type=Path, dir_okay=False),
    default=None,
    metavar="FILE",
    help="Draw a timeline.",
)
@click.pass_context
def chaos(
    context: click.Context,
    folder: Path,
    compose: bool,
    project: str,
    seed: int,
    seconds: float,
    most: int | None,
    pause: float,
    length: tuple[float, float],
    kinds: list[str],
    dry_run: bool,
    rate: float,
    clients: int,
    wait_replicas: int,
    allow_lost: int,
    allow_stale: int,
    patience: float,
    keep: bool,
    user: str,
    password: str,
    is_json: bool,
    svg: Path | None,
) -> None:
    """Harm a running cluster while clients write and read, and count what was lost.

    Nodes and sentinels are killed, stopped and cut off by a schedule that is drawn from a seed.
    """
    if length[0] > length[1]:
        raise click.UsageError("--length: the least is more than the most.")
    settings = Settings(
        seed=seed,
        seconds=seconds,
        limited=most is None,
        rate=rate,
        clients=clients,
        wait_replicas=wait_replicas,
        patience=patience,
        allowance=Allowance(allow_lost, allow_stale),
        keep=keep,
    )

    def tell(text: str) -> None:
        click.echo(text, err=is_json)

    async def work() -> int:
        target: Target
        if compose:
            target = containers = Containers(project)
            await containers.find()
        else:
            target = Processes(folder)
        reasons = await target.find_impossible(kinds)
        impossible: dict[str, str] = {kind: reasons[kind] for kind in KINDS if kind in reasons}
        faults = draw_schedule(
            seed,
            target.topology,
            [kind for kind in kinds if kind not in impossible],
            seconds=seconds,
            most=most or 0,
            pause=pause,
            length=length,
        )
        for line in announce(faults, impossible):
            tell(line)
        if dry_run:
            if is_json:
                click.echo(json.dumps(describe_plan(seed, target, impossible, faults)))
            return EXIT_DONE
        if not faults:
            raise Refused("There is nothing to do: no kind of fault is possible, or no time")
        credentials = Credentials(user, password)
        run = Chaos(target, settings, faults, impossible, SystemNetwork(), credentials, tell)
        return show(await run.run(), is_json, svg)

    context.exit(run_to_end(lambda: trio.run(work), lambda text: click.echo(text, err=True)))


def describe_plan(
    seed: int, target: Target, impossible: dict[str, str], faults: list[Fault]
) -> dict[str, object]:
    """A dry run for `--json`."""
    return {
        "seed": seed,
        "topology": asdict(target.topology),
        "impossible": impossible,
        "faults": [fault.as_json() for fault in faults],
    }


def show(report: Report, is_json: bool, svg: Path | None) -> int:
    """The report, wherever it is wanted; the exit code."""
    if svg is not None:
        replace_file(str(svg), timeline.draw(report).encode())
    if is_json:
        click.echo(json.dumps(as_json(report)))
    else:
        click.echo("\n".join(["", *write_text(report)]))
    return EXIT_PROBLEMS if report.problems() else EXIT_DONE
