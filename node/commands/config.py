"""CONFIG: directives seen and changed while the server runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from node.command import Group
from node.component import Component
from node.config import LoadingError, SetError
from node.config.rewriting import rewrite_file
from node.config.syntax import decode
from node.resp import OK, Map, Reply, ReplyError, Status
from node.session import Session
from node.values import pattern

if TYPE_CHECKING:
    from node.server import Server

GROUP: Final = Group("server")
GROUP.container("config", since="2.0.0", summary="Holds the commands for configuration.")

REDACTED: Final = b"(redacted)"

HELP: Final = (
    "CONFIG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "GET <pattern> [<pattern> ...]",
    "    Show the directives that match one of the glob patterns, with their values.",
    "SET <directive> <value> [<directive> <value> ...]",
    "    Change directives: all of them, or none if one is refused.",
    "RESETSTAT",
    "    Set the counters that INFO reports to zero.",
    "REWRITE",
    "    Bring the configuration file up to date.",
    "HELP",
    "    Print this help.",
)


class Configuration(Component):
    """The CONFIG command over the engine's configuration.

    RESETSTAT clears the counters of commands and errors and asks every component to clear its own.
    """

    def __init__(self, server: Server) -> None:
        super().__init__(server.engine)
        self._server = server

    def groups(self) -> Sequence[Group]:
        """CONFIG and its subcommands."""
        return (GROUP,)

    @GROUP.command(
        "config|get",
        -3,
        "admin noscript loading stale",
        since="2.0.0",
        complexity="O(N) when N is the number of configuration parameters provided",
        summary="Returns directives and their values.",
        syntax="parameter [parameter ...]",
        history=[("7.0.0", "Takes several patterns in one call.")],
    )
    def get(self, ctx: Session, argv: list[bytes]) -> Reply:
        """Names and values of what the patterns match."""
        found = self.engine.config.get(argv[2:], _match)
        return Map([part for pair in found.items() for part in pair])

    @GROUP.command(
        "config|set",
        -4,
        "admin noscript loading stale",
        since="2.0.0",
        complexity="O(N) when N is the number of configuration parameters provided",
        summary="Changes directives while the server runs.",
        syntax="parameter value [parameter value ...]",
        history=[("7.0.0", "Takes several directives in one call.")],
        tips=["request_policy:all_nodes", "response_policy:all_succeeded"],
    )
    def set(self, ctx: Session, argv: list[bytes]) -> Reply:
        """Change all of the directives or none."""
        if len(argv) % 2:
            raise ReplyError(b"ERR syntax error")
        config = self.engine.config
        pairs: list[tuple[str, str]] = []
        for at in range(2, len(argv), 2):
            name = decode(argv[at])
            pairs.append((name, decode(argv[at + 1])))
            directive = config.find(name)
            if directive is not None and directive.sensitive:
                # The slow log is given these arguments afterwards.
                argv[at + 1] = REDACTED
        try:
            config.set(pairs, local=_is_local(ctx), loading=self._server.loading)
        except LoadingError as error:
            raise ReplyError(f"LOADING {error}".encode()) from None
        except SetError as error:
            raise ReplyError(f"ERR {error}".encode(errors="surrogateescape")) from None
        return OK

    @GROUP.command(
        "config|rewrite",
        2,
        "admin noscript loading stale",
        since="2.8.0",
        complexity="O(1)",
        summary="Writes the values of directives into the configuration file.",
    )
    def rewrite(self, ctx: Session, argv: list[bytes]) -> Reply:
        """Bring the file up to date."""
        config, log = self.engine.config, self.engine.log
        if not config.file:
            raise ReplyError(b"ERR The server is running without a config file")
        try:
            rewrite_file(config)
        except OSError as error:
            reason = error.strerror or str(error)
            log.warning(f"CONFIG REWRITE failed: {reason}")
            raise ReplyError(f"ERR Rewriting config file: {reason}".encode()) from None
        log.notice("CONFIG REWRITE executed with success.")
        return OK

    @GROUP.command(
        "config|resetstat",
        2,
        "admin noscript loading stale",
        since="2.0.0",
        complexity="O(1)",
        summary="Sets the server's statistics to zero.",
    )
    def reset_stat(self, ctx: Session, argv: list[bytes]) -> Reply:
        """Zero all counters."""
        self.engine.reset_statistics()
        return OK

    @GROUP.command(
        "config|help",
        2,
        "loading stale",
        since="5.0.0",
        complexity="O(1)",
        summary="Lists the subcommands of CONFIG.",
    )
    def help(self, ctx: Session, argv: list[bytes]) -> Reply:
        """The lines above."""
        return [Status(line.encode()) for line in HELP]


def _match(glob: bytes, name: bytes) -> bool:
    return pattern.matches(glob, name, nocase=True)


def _is_local(session: Session) -> bool:
    return session.unix_socket or session.address.startswith((b"127.", b"[::1]", b"::1"))
