"""The command line: `sentrio node`, `sentinel`, `cluster`, `up`, `chaos`. Above all programs."""

from __future__ import annotations

import hashlib
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, NoReturn

import click
import trio

from cluster.composition import install_cluster
from node import engine, process
from node.clock import Clock, choose_clock
from node.collector import tune_collector
from node.composition import compose
from node.config import (
    Config,
    ConfigError,
    ConfigFileError,
    Statement,
    UnreadableFile,
    make_config,
)
from node.log import ROLE_MASTER, ROLE_SENTINEL, Log
from node.network import Network, SystemNetwork
from node.server import CannotListen, LoadFailed, Server, watch_signals
from node.version import REDIS_VERSION, SENTRIO_VERSION

_UNRESTRICTED = {"on", "~*", "&*", "+@all"}
_HARMLESS_RULES = {"sanitize-payload", "skip-sanitize-payload"}

_NODE_HELP = """\
Usage: sentrio node [/path/to/sentrio.conf] [options] [-]
       sentrio node - (read config from stdin)
       sentrio node -v or --version
       sentrio node -h or --help

Options are configuration directives: every `--name value ...` stands for a line after the end of
the config file, and wins over it. docs/configuration.md lists them all.

Examples:
       sentrio node (run the server with default conf)
       echo 'maxmemory 128mb' | sentrio node -
       sentrio node /etc/sentrio/6379.conf
       sentrio node --port 7777
       sentrio node --port 7777 --bind 127.0.0.1 ::1
       sentrio node /etc/sentrio.conf --loglevel verbose -
       sentrio node /etc/sentrio.conf --loglevel verbose"""


_SENTINEL_HELP = """\
Usage: sentrio sentinel /path/to/sentinel.conf [options]
       sentrio sentinel -v or --version
       sentrio sentinel -h or --help

The config file is where the sentinel keeps what it knows, and must be writable. Options are
directives: every `--name value ...` stands for a line after the end of the config file, and wins
over it. docs/sentinel.md has all of them.

Examples:
       sentrio sentinel /etc/sentinel.conf
       sentrio sentinel /etc/sentinel.conf --port 26380
       sentrio sentinel /etc/sentinel.conf --sentinel announce-ip 10.0.0.5"""


class Program:
    """What differs between the programs that are servers.

    ``name`` is the subcommand, ``adjust`` sets defaults of its own, ``examine`` looks at statements
    (see `Config.examine`), ``compose`` puts the server together, ``mode`` says what runs.
    """

    def __init__(
        self,
        name: str,
        title: str,
        help: str,
        role: str,
        adjust: Callable[[Config], None],
        examine: Callable[[Statement], None],
        compose: Callable[[Config, Log, Clock, Network], Server],
        mode: Callable[[Config], str],
    ) -> None:
        self.name = name
        self.title = title
        self.help = help
        self.role = role
        self.adjust = adjust
        self.examine = examine
        self.compose = compose
        self.mode = mode


class _PassThrough(click.Command):
    """A command that takes all its arguments as they are: its options are not click's."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.params["arguments"] = tuple(args)
        return []


class _Programs(click.Group):
    """The group of all programs; what a node does not need is imported when it is asked for."""

    elsewhere: ClassVar = {
        "chaos": ("cluster.chaos.command", "chaos"),
        "cluster": ("cluster.tool.commands", "cluster"),
        "up": ("cluster.up.command", "up"),
    }

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *self.elsewhere])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.elsewhere:
            return super().get_command(ctx, cmd_name)
        module, name = self.elsewhere[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


@click.group(
    cls=_Programs,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(SENTRIO_VERSION, "-v", "--version", prog_name="sentrio")
@click.pass_context
def main(context: click.Context) -> None:
    """A Redis-compatible data-structure server."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@main.command(
    cls=_PassThrough,
    add_help_option=False,
    short_help="Run one data server; takes what redis-server takes.",
)
def node(arguments: tuple[str, ...]) -> NoReturn:
    """Run one data server; takes what redis-server takes."""
    sys.exit(run_node(arguments))


def run_node(arguments: Sequence[str]) -> int:
    """`sentrio node` with its arguments; the exit code."""
    return run_program(NODE, arguments)


@main.command(
    cls=_PassThrough,
    add_help_option=False,
    short_help="Run one sentinel; takes what redis-sentinel takes.",
)
def sentinel(arguments: tuple[str, ...]) -> NoReturn:
    """Run one sentinel; takes what redis-sentinel takes."""
    sys.exit(run_program(describe_sentinel(), arguments))


def describe_sentinel() -> Program:
    """The program `sentrio sentinel`, imported when it is asked for."""
    composition = importlib.import_module("sentinel.composition")
    return Program(
        "sentinel",
        "sentinel",
        _SENTINEL_HELP,
        ROLE_SENTINEL,
        composition.set_defaults,
        refuse_unsafe,
        composition.compose,
        lambda config: "sentinel",
    )


def run_program(program: Program, arguments: Sequence[str]) -> int:
    """Run a server with its arguments; the exit code."""
    first = arguments[0] if arguments else ""
    if first in ("-v", "--version"):
        click.echo(
            f"Sentrio {program.title} v={SENTRIO_VERSION} redis_version={REDIS_VERSION} "
            f"bits={64 if sys.maxsize > 2**32 else 32} "
            f"python={'.'.join(map(str, sys.version_info[:3]))} "
            f"core={'interpreted' if engine.__file__.endswith('.py') else 'compiled'}"
        )
        return 0
    if first in ("-h", "--help"):
        click.echo(program.help)
        return 0
    if first in ("--test-memory", "--check-system"):
        click.echo(
            f"{first} is not available: Sentrio does not test hardware or the system; "
            f"`redis-server {first}` does.",
            err=True,
        )
        return 1
    clock = choose_clock(os.environ)
    early = Log(clock)
    config = make_config()
    program.adjust(config)
    try:
        read_configuration(config, arguments, early, program.examine)
        log = open_log(config, clock)
        os.chdir(config.text("dir"))
    except UnreadableFile as error:
        early.warning(error.message)
        return 1
    except ConfigFileError as error:
        click.echo(str(error), err=True)
        return 1
    except OSError as error:
        early.warning(f"Fatal error, can't enter '{config.text('dir')}': {error.strerror}")
        return 1
    config.warn = log.warning
    crashes = process.CrashReports(log)
    supervisor = process.Supervisor(config.text("supervised"), os.environ, log)
    supervisor.starting()
    background = config.boolean("daemonize") and not supervisor.kind
    started: Callable[[], None] = _do_nothing
    if background:
        started = process.detach()
        if not config.text("pidfile"):
            config.adopt("pidfile", process.DEFAULT_PID_FILE)
    crashes.enable(config.boolean("crash-log-enabled"))
    config.on_change(
        "crash-log-enabled", lambda: crashes.enable(config.boolean("crash-log-enabled"))
    )
    process.greet(log, bool(arguments), f"sentrio {program.name}")
    for name in config.idle():
        log.warning(f"The directive '{name}' is accepted, but has no effect in this version.")
    pid_file = process.PidFile(config.text("pidfile"), log)
    try:
        return serve(program, config, log, clock, supervisor, pid_file, started)
    except process.CannotStart as error:
        log.warning(str(error))
    except ConfigFileError as error:
        click.echo(str(error), err=True)
    except Exception as error:
        crashes.report(error)
    return 1


def read_configuration(
    config: Config,
    arguments: Sequence[str],
    log: Log,
    examine: Callable[[Statement], None],
) -> None:
    """Read the file that the first argument names, then standard input, then the options.

    The rules are redis-server's: a first argument without a leading `-` is the file, and a `-` as
    the first or the last argument stands for standard input. Raises ConfigFileError.
    """
    config.examine = examine
    rest = list(arguments)
    if rest and not rest[0].startswith("-"):
        config.file = str(Path(rest.pop(0)).absolute())
        config.read_file(config.file)
    from_input = False
    for place in (0, -1):
        if rest and rest[place] == "-":
            from_input = True
            rest.pop(place)
    if from_input:
        log.notice("Reading config from stdin")
        config.read_text(sys.stdin.buffer.read(), "standard input")
    config.read_options([os.fsencode(argument) for argument in rest])
    config.check()
    check_password(config)


def refuse_statement(statement: Statement) -> None:
    """Refuse lines that ask for what a data server does not have. Raises ConfigError."""
    if statement.name == "sentinel":
        raise ConfigError("sentinel directive while not in sentinel mode")
    refuse_unsafe(statement)


def refuse_unsafe(statement: Statement) -> None:
    """Refuse lines that ask for what no server here has, where going on would be unsafe.

    What CONFIG REWRITE of redis-server always writes, a default user who may do everything with the
    password that is `requirepass`, is let through (see `check_password`). Raises ConfigError.
    """
    name, words = statement.name, statement.words
    if name == "loadmodule":
        raise ConfigError("Modules are not supported")
    if name == "user":
        rules = {word.lower() for word in words[1:]} - _HARMLESS_RULES
        entry = {rule for rule in rules if rule == "nopass" or rule.startswith("#")}
        if words[0] != "default" or rules - entry != _UNRESTRICTED or len(entry) != 1:
            raise ConfigError(
                "Error in user declaration: ACL users are not supported, only the default user "
                "without restrictions"
            )


def check_password(config: Config) -> None:
    """Refuse a default user whose password is another one than `requirepass`: which one holds?

    Raises ConfigFileError.
    """
    known = f"#{hashlib.sha256(config.octets('requirepass')).hexdigest()}"
    for statement in config.statements("user"):
        if any(word.startswith("#") and word.lower() != known for word in statement.words):
            raise statement.refuse(
                "Error in user declaration: ACL users are not supported, and the default user's "
                "password is not that of requirepass"
            )


def open_log(config: Config, clock: Clock) -> Log:
    """The log that the configuration asks for. Raises ConfigFileError."""
    path = config.text("logfile")
    if path:
        path = config.path("logfile")
        try:
            with Path(path).open("ab"):
                pass
        except OSError as error:
            raise ConfigFileError(f"Can't open the log file: {error.strerror}") from None
    log = Log(clock, level=config.text("loglevel"), path=path)
    if config.boolean("syslog-enabled"):
        log.open_syslog(config.text("syslog-ident"), config.text("syslog-facility"))
    config.on_change("loglevel", lambda: log.set_level(config.text("loglevel")))
    return log


def serve(
    program: Program,
    config: Config,
    log: Log,
    clock: Clock,
    supervisor: process.Supervisor,
    pid_file: process.PidFile,
    started: Callable[[], None],
) -> int:
    """Run the server until it is shut down; the exit code.

    `started` is called once the configuration has turned out to be usable.

    Raises ConfigFileError for a line that turns out to be wrong only now, CannotStart.
    """
    log.role = program.role
    log.notice("monotonic clock: POSIX clock_gettime")
    config.adopt("maxclients", process.allow_clients(config.integer("maxclients"), log))
    server = program.compose(config, log, clock, SystemNetwork())
    started()
    config.on_change("maxclients", lambda: allow_more_clients(config, log))
    config.on_change("dir", lambda: enter_directory(config))
    process.show_banner(
        log,
        program.mode(config),
        config.integer("port"),
        config.boolean("always-show-logo"),
    )
    process.warn_about_backlog(log, config.integer("tcp-backlog"))

    def initialized() -> None:
        pid_file.write()
        log.notice("Server initialized")

    def ready() -> None:
        if server.ports:
            log.notice("Ready to accept connections tcp")
        if config.text("unixsocket"):
            log.notice("Ready to accept connections unix")
        supervisor.ready()

    tune_collector()
    code = trio.run(run_server, server, initialized, ready)
    if code == 0:
        supervisor.stopping()
        pid_file.remove()
        process.remove_socket(config.text("unixsocket"), log)
        log.warning("Sentrio is now ready to exit, bye bye...")
    return code


async def run_server(
    server: Server, initialized: Callable[[], None], ready: Callable[[], None]
) -> int:
    """Serve until SHUTDOWN or a signal; the exit code."""
    code = 0
    async with trio.open_nursery() as nursery:
        await nursery.start(watch_signals, server)
        try:
            await server.run(initialized=initialized, ready=ready)
        except (CannotListen, LoadFailed):
            code = 1
        nursery.cancel_scope.cancel()
    return code


def allow_more_clients(config: Config, log: Log) -> None:
    """Refuse a `maxclients` that the system has not enough open files for."""
    wanted = config.integer("maxclients")
    try:
        possible = process.allow_clients(wanted, log)
    except process.TooFewFiles as error:
        raise ConfigError(str(error)) from None
    if possible < wanted:
        raise ConfigError(
            "The operating system is not able to handle the specified number of clients, try "
            f"with {possible}"
        )


def enter_directory(config: Config) -> None:
    """Make `dir` the working directory of the process."""
    try:
        os.chdir(config.text("dir"))
    except OSError as error:
        raise ConfigError(error.strerror or str(error)) from None


def _do_nothing() -> None:
    return None


NODE = Program(
    "node",
    "server",
    _NODE_HELP,
    ROLE_MASTER,
    lambda config: None,
    refuse_statement,
    lambda config, log, clock, network: compose(config, log, clock, network, install_cluster),
    lambda config: "cluster" if config.boolean("cluster-enabled") else "standalone",
)


if __name__ == "__main__":
    main(prog_name="sentrio")
