"""The command line: `python -m bench --help`."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import click
from rich.console import Console

from bench.cluster import PARTS, examine_cluster
from bench.durability import examine_durability
from bench.load import SETTINGS, WORKLOADS, Contender, compare
from bench.machine import describe
from bench.memory import SHAPES, weigh
from bench.replication import examine_replication
from bench.report import Report
from bench.sentinel import examine_sentinels
from bench.stalls import DEFAULT_KEYS, examine
from tests.servers import (
    Server,
    node_command,
    oracle_command,
    oracle_sentinel_command,
    sentinel_command,
)

METHOD = (
    "`python -m bench` starts our node and redis-server, both without persistence, and lets them "
    "take turns under redis-benchmark ({rounds} rounds of about {seconds:g} s each, keyspace "
    "100,000; new processes for each, which warm up first, since one may be a fifth slower than "
    "the next for as long as it lives; medians). The ratio is ours / Redis. CPU is the server's "
    "processor time per request. Memory is the growth of resident memory, of a fresh process each."
)
DURABILITY_METHOD = (
    "`python -m bench --durability` starts our node and redis-server with the append-only file or "
    "with snapshots and measures one after the other: seconds until a BGSAVE or BGREWRITEAOF is "
    "over (medians of three), seconds of loading by the servers' own logs, the growth of the "
    "proportional resident memory (PSS) of parent and child during a BGSAVE under SETs of 8 "
    "clients, and the longest that a client that pings had to wait meanwhile. SET with the log on: "
    "redis-benchmark, {rounds} rounds of about {seconds:g} s each, with new processes that warm up."
)

REPLICATION_METHOD = (
    "`python -m bench --replication` starts masters and replicas of both kinds, without "
    "persistence, and lets the kinds take turns ({rounds} rounds, medians). A full synchronization "
    "lasts from REPLICAOF until the link is up, with a new replica each time. A replica applies a "
    "stream of SETs (keyspace 100,000) that a scripted master sends as fast as it is taken, until "
    "the replica acknowledges its end. A master with replicas is under redis-benchmark for about "
    "{seconds:g} s; all servers and redis-benchmark share the machine's cores: equally, or, for "
    "replicas that yield, so that these get what master and load leave (nice 19), as if they had "
    "machines of their own. CPU is a server's processor time per write; what a replica costs its "
    "master is half of what two of them add. Each round has new processes, which warm up "
    "first."
)

CLUSTER_METHOD = (
    "`python -m bench --cluster` starts clusters of our nodes and of Redis's, without persistence, "
    "and lets them take turns. Requests: redis-benchmark, {rounds} rounds of about {seconds:g} s, "
    "keyspace 100,000, new processes that warm up, medians; a node that has all slots, and the "
    "same without cluster mode. "
    "Reshard: keys of a dozen bytes with values as small, from a master to another one and back "
    "(the mean of both), while one client reads and writes them, about 400 requests/s. Killed "
    "master: three masters, the first with a replica; from SIGKILL until the replica accepts a "
    "write, asked every 5 ms. Idle nodes: all masters, default directives; the mean of all nodes "
    "in percent of one core."
)

STALL_METHOD = (
    "`python -m bench --stalls` fills our node with keys and sends 2,000 of each command, one at a "
    "time: the slowest counts, as a client sees it. A stall is the longest that a client that "
    "pings has to wait meanwhile. Beside each is the longest answer of an idle redis-server in the "
    "same moments: what the machine adds by itself."
)

SENTINEL_METHOD = (
    "`python -m bench --sentinels` lets three sentinels of each kind guard a master with two "
    "replicas of their kind, with equal settings, and the kinds take turns; then three of ours a "
    "cluster of three masters with a replica each, beside a Redis Cluster that elects by itself "
    "with a node time-out as long. One client writes all the time, about 400 writes/s, tries all "
    "servers in turn while none takes a write, and counts what was acknowledged and is not there "
    "afterwards. Times are from SIGKILL to the first write that is accepted, asked every 5 ms."
)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--server", help="What starts our node.  [default: this Python's sentrio node]")
@click.option("--oracle", help="What starts the server to compare with.  [default: redis-server]")
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1))
@click.option("--seconds", default=2.5, show_default=True, help="About how long a round lasts.")
@click.option("--command", "commands", multiple=True, help="Only these; may be repeated.")
@click.option("--setting", "settings", multiple=True, help="Only settings with this in the name.")
@click.option("--quick", is_flag=True, help="One short round each, a tenth of the keys.")
@click.option("--speed/--no-speed", default=True, show_default=True)
@click.option("--memory/--no-memory", default=True, show_default=True)
@click.option("--durability", is_flag=True, help="Also snapshots and the append-only file.")
@click.option("--replication", is_flag=True, help="Also masters and replicas.")
@click.option("--cluster", is_flag=True, help="Also cluster mode.")
@click.option("--sentinels", is_flag=True, help="Also failovers by sentinels.")
@click.option("--failovers", default=10, show_default=True, help="How many of each kind.")
@click.option(
    "--part", "cluster_parts", multiple=True, type=click.Choice(PARTS), help="Only these of it."
)
@click.option("--stalls", is_flag=True, help="Also the check with ten million keys (ours only).")
@click.option("--keys", default=DEFAULT_KEYS, show_default=True, help="How many for --stalls.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write figures here.")
@click.option("--markdown", "markdown_file", type=click.Path(path_type=Path), help="Write a page.")
def main(
    server: str | None,
    oracle: str | None,
    rounds: int,
    seconds: float,
    commands: tuple[str, ...],
    settings: tuple[str, ...],
    quick: bool,
    speed: bool,
    memory: bool,
    durability: bool,
    replication: bool,
    cluster: bool,
    sentinels: bool,
    failovers: int,
    cluster_parts: tuple[str, ...],
    stalls: bool,
    keys: int,
    json_file: Path | None,
    markdown_file: Path | None,
) -> None:
    """Measure our node beside redis-server."""
    ours = shlex.split(server) if server else node_command()
    theirs = shlex.split(oracle) if oracle else oracle_command()
    if theirs is None:
        raise click.ClickException("no redis-server (Debian: apt-get install redis-server)")
    if quick:
        rounds, seconds, keys = 1, 0.3, keys // 10
    unknown = {name.upper() for name in commands} - {each.name for each in WORKLOADS}
    if unknown:
        raise click.ClickException(f"no such command here: {', '.join(sorted(unknown))}")
    console = Console(width=None if Console().is_terminal else 140)
    progress = Console(stderr=True)
    chapters = (
        ("Benchmarks", METHOD, speed or memory),
        ("Benchmarks of durability", DURABILITY_METHOD, durability),
        ("Benchmarks of replication", REPLICATION_METHOD, replication),
        ("Benchmarks of cluster mode", CLUSTER_METHOD, cluster),
        ("Benchmarks of sentinels", SENTINEL_METHOD, sentinels),
        ("Pauses with many keys", STALL_METHOD, stalls),
    )
    titles = [title for title, _, wanted in chapters if wanted]
    methods = [text for _, text, wanted in chapters if wanted]
    method = "\n\n".join(methods).format(rounds=rounds, seconds=seconds)
    report = Report(titles[0] if len(titles) == 1 else "Benchmarks", describe(ours, theirs), method)
    if speed:
        _measure_speed(report, progress, ours, theirs, rounds, seconds, commands, settings)
    if memory:
        count = 100_000 if quick else 1_000_000
        for shape in SHAPES:
            progress.print(f"memory: {count:,} × {shape.name}")
            report.weights.append(weigh(ours, theirs, shape, count))
    if durability:
        progress.print("durability")
        count = 100_000 if quick else 1_000_000
        report.durability, found = examine_durability(ours, theirs, count, rounds, seconds)
        report.comparisons += found
    if replication:
        progress.print("replication")
        count = 100_000 if quick else 1_000_000
        report.replication, found = examine_replication(ours, theirs, count, rounds, seconds)
        report.comparisons += found
    if cluster:
        progress.print("cluster mode")
        count = 20_000 if quick else 200_000
        parts = cluster_parts or PARTS
        report.cluster, found = examine_cluster(ours, theirs, count, rounds, seconds, parts)
        report.comparisons += found
    if sentinels:
        progress.print("sentinels")
        watcher = oracle_sentinel_command()
        if watcher is None:
            raise click.ClickException("no redis-sentinel (Debian: apt-get install redis-sentinel)")
        report.sentinels = examine_sentinels(
            (ours, theirs), (sentinel_command(), watcher), 1 if quick else failovers
        )
    if stalls:
        progress.print(f"pauses with {keys:,} keys")
        report.findings += examine(ours, theirs, keys)
    report.print(console)
    if json_file:
        json_file.write_text(json.dumps(report.as_dict(), indent=2) + "\n")
    if markdown_file:
        markdown_file.write_text(report.markdown())


def _measure_speed(
    report: Report,
    progress: Console,
    ours: list[str],
    theirs: list[str],
    rounds: int,
    seconds: float,
    commands: tuple[str, ...],
    settings: tuple[str, ...],
) -> None:
    wanted = {name.upper() for name in commands}
    with (
        Server(ours, name="bench-ours") as our_server,
        Server(theirs, name="bench") as their_server,
    ):
        contenders = Contender(our_server), Contender(their_server)
        for setting in SETTINGS:
            if settings and not any(text in setting.name for text in settings):
                continue
            for workload in WORKLOADS:
                if wanted and workload.name not in wanted:
                    continue
                found = compare(*contenders, workload, setting, rounds, seconds)
                report.comparisons.append(found)
                progress.print(f"{setting.name}, {workload.name}: {found.ratio:.2f}")


if __name__ == "__main__":
    main()
