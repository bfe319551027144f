"""SENTINEL SET, CONFIG and DEBUG: what can be changed while a sentinel runs.

Behaviour and texts after ``sentinelSetCommand``, ``sentinelConfigCommand`` and
``sentinelDebugCommand`` (``sentinelSetDebugConfigParameters``) in sentinel.c of Redis 7.2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from node.command import Group
from node.commands.arguments import REDACTED
from node.component import Component
from node.config.syntax import decode, encode
from node.log import LEVELS
from node.resp import OK, Map, Reply, ReplyError
from node.session import Session
from node.values import pattern
from node.values.number import parse_integer
from sentinel.commands import ADMIN, find_master, save
from sentinel.config_file import (
    BAD_NOTIFICATION_SCRIPT,
    BAD_RECONFIG_SCRIPT,
    LARGEST_PORT,
    is_executable,
)
from sentinel.state import Master

if TYPE_CHECKING:
    from sentinel.watcher import Watcher

GROUP: Final = Group("sentinel")

SCRIPTS_DENIED: Final = (
    b"ERR Reconfiguration of scripts path is denied for security reasons. Check the "
    b"deny-scripts-reconfig configuration directive in your Sentinel configuration"
)
CONFIG_USAGE: Final = (
    b"ERR Only SENTINEL CONFIG GET <param> [<param> <param> ...] / SET <param> <value> "
    b"[<param> <value> ...] are supported."
)
QUORUM_OF_SHARD: Final = b"ERR The quorum of a shard is that of its cluster"
HIDDEN: Final = "******"

# SENTINEL SET: numbers, with the attribute of a master and the least that is allowed.
NUMBERS: Final = {
    "down-after-milliseconds": ("down_after", 1),
    "failover-timeout": ("failover_timeout", 1),
    "parallel-syncs": ("parallel_syncs", 1),
    "quorum": ("quorum", 1),
    "master-reboot-down-after-period": ("reboot_down_after", 0),
}
SCRIPTS: Final = {
    "notification-script": ("notification_script", BAD_NOTIFICATION_SCRIPT),
    "client-reconfig-script": ("client_reconfig_script", BAD_RECONFIG_SCRIPT),
}
CREDENTIALS: Final = {"auth-pass": "auth_pass", "auth-user": "auth_user"}

# SENTINEL DEBUG: what there is, in Redis's order.
PERIODS: Final = (
    "info-period",
    "ping-period",
    "ask-period",
    "publish-period",
    "default-down-after",
    "default-failover-timeout",
    "tilt-trigger",
    "tilt-period",
    "slave-reconf-timeout",
    "min-link-reconnect-period",
    "election-timeout",
    "script-max-runtime",
    "script-retry-delay",
)


class Options(Component):
    """The three commands."""

    def __init__(self, watcher: Watcher) -> None:
        super().__init__(watcher.engine)
        self._watcher = watcher
        self._machine = watcher.machine
        self._config = watcher.engine.config
        # SENTINEL CONFIG: how to show an option, in Redis's order.
        state = watcher.state
        self._shown: dict[str, Callable[[], object]] = {
            "resolve-hostnames": lambda: _yes_or_no(state.resolve_hostnames),
            "announce-hostnames": lambda: _yes_or_no(state.announce_hostnames),
            "announce-ip": lambda: state.announce_ip,
            "announce-port": lambda: state.announce_port,
            "sentinel-user": lambda: state.sentinel_user,
            "sentinel-pass": lambda: state.sentinel_pass,
            "loglevel": lambda: self._config.text("loglevel"),
        }

    def groups(self) -> Sequence[Group]:
        return (GROUP,)

    # SENTINEL SET.

    @GROUP.command(
        "sentinel|set",
        -5,
        ADMIN,
        since="2.8.4",
        complexity="O(1)",
        summary="Changes options of a master.",
        syntax="master-name data=<option value> [<option value> ...]",
    )
    def set(self, ctx: Session, argv: list[bytes]) -> Reply:
        """OK; what stands before an option that is refused holds all the same.

        What is set for a cluster is set for all its shards; their quorum is the cluster's.
        """
        state = self._machine.state
        cluster = state.clusters.get(decode(argv[2]))
        if cluster is None:
            masters = [find_master(state, argv[2])]
        else:
            masters = [cluster.options, *cluster.masters(state)]
        at = 3
        try:
            while at < len(argv):
                at += self._set_one(masters, argv, at)
        finally:
            if at > 3:
                credentials = any(decode(word).lower() in CREDENTIALS for word in argv[3:at])
                now = self._watcher.now()
                if cluster is None:
                    self._machine.changed(masters[0], now, credentials=credentials)
                else:
                    self._machine.guard.changed(cluster, credentials=credentials)
                save(self._watcher)
        return OK

    def _set_one(self, masters: Sequence[Master], argv: list[bytes], at: int) -> int:
        """Set the option at ``argv[at]``; how many words that took. Raises ReplyError.

        Several masters are those of a cluster, its options first.
        """
        master = masters[0]
        name = decode(argv[at])
        option = name.lower()
        words = [decode(word) for word in argv[at + 1 : at + 3]]
        if option == "rename-command" and len(words) == 2:
            if not all(words):
                raise _bad_value("", name, "SET")
            old, new = words
            for each in masters:
                each.renamed_commands.pop(old.upper(), None)
                if old.upper() != new.upper():
                    each.renamed_commands[old.upper()] = new
            self._machine.tell("warning", "+set", master, f" {name} {old} {new}")
            return 3
        if option == "quorum" and master.cluster is not None:
            raise ReplyError(QUORUM_OF_SHARD)
        if not words:
            raise _unknown(name, "SET")
        for each in masters:
            if not self._set_value(each, option, name, words[0]):
                raise _unknown(name, "SET")
        if option == "auth-pass":
            # MONITOR and the slow log show the arguments as they are left here.
            argv[at + 1] = REDACTED
            words[0] = HIDDEN
        self._machine.tell("warning", "+set", master, f" {name} {words[0]}")
        return 2

    def _set_value(self, master: Master, option: str, name: str, value: str) -> bool:
        """Set an option that has one value; False: there is no such option."""
        if option in NUMBERS:
            attribute, least = NUMBERS[option]
            number = parse_integer(encode(value))
            if number is None or number < least:
                raise _bad_value(value, name, "SET")
            setattr(master, attribute, number)
        elif option in SCRIPTS:
            attribute, refusal = SCRIPTS[option]
            if self._machine.state.deny_scripts_reconfig:
                raise ReplyError(SCRIPTS_DENIED)
            if value and not is_executable(value):
                raise ReplyError(f"ERR {refusal}".encode())
            setattr(master, attribute, value)
        elif option in CREDENTIALS:
            setattr(master, CREDENTIALS[option], value)
        else:
            return False
        return True

    # SENTINEL CONFIG.

    @GROUP.command(
        "sentinel|config",
        -4,
        ADMIN,
        since="6.2.0",
        complexity="O(N) when N is the number of configuration parameters provided",
        summary="Shows or changes global options.",
        syntax="<SET <parameter value> [<parameter value> ...] | GET parameter [parameter ...]>",
        history=[("7.2.0", "Takes several options in one call.")],
    )
    def config(self, ctx: Session, argv: list[bytes]) -> Reply:
        """GET: names and values; SET: OK, all or nothing."""
        kind = argv[2].lower()
        if kind == b"get":
            return self._get_options(argv[3:])
        if kind == b"set" and len(argv) > 4:
            return self._set_options(argv)
        raise ReplyError(CONFIG_USAGE)

    def _get_options(self, patterns: Sequence[bytes]) -> Reply:
        found: dict[str, Reply] = {}
        for glob in patterns:
            for name, show in self._shown.items():
                if name not in found and pattern.matches(glob, name.encode(), nocase=True):
                    found[name] = encode(str(show()))
        return Map([part for name, value in found.items() for part in (name.encode(), value)])

    def _set_options(self, argv: list[bytes]) -> Reply:
        wanted: dict[str, str] = {}
        for at in range(3, len(argv), 2):
            name = decode(argv[at])
            option = name.lower()
            if at + 1 == len(argv):
                raise ReplyError(encode(f"ERR Missing argument '{name}' value"))
            if option in wanted:
                refusal = f"ERR Duplicate argument '{name}' to SENTINEL CONFIG SET"
                raise ReplyError(encode(refusal))
            if option not in self._shown:
                raise ReplyError(encode(f"ERR Invalid argument '{name}' to SENTINEL CONFIG SET"))
            value = decode(argv[at + 1])
            if option == "sentinel-pass":
                argv[at + 1] = REDACTED
            if not _is_valid(option, value):
                refusal = f"ERR Invalid value '{value}' to SENTINEL CONFIG SET '{name}'"
                raise ReplyError(encode(refusal))
            wanted[option] = value
        for option, value in wanted.items():
            self._set_option(option, value)
        if "sentinel-user" in wanted or "sentinel-pass" in wanted:
            self._machine.credentials_changed(self._watcher.now())
        self._machine.unsaved = True
        save(self._watcher)
        return OK

    def _set_option(self, option: str, value: str) -> None:
        state = self._machine.state
        if option == "resolve-hostnames":
            state.resolve_hostnames = self._watcher.names.enabled = value.lower() == "yes"
        elif option == "announce-hostnames":
            state.announce_hostnames = value.lower() == "yes"
        elif option == "announce-ip":
            state.announce_ip = value
        elif option == "announce-port":
            state.announce_port = int(value)
        elif option == "sentinel-user":
            state.sentinel_user = value
        elif option == "sentinel-pass":
            state.sentinel_pass = value
        else:
            self._config.set([("loglevel", value)])

    # SENTINEL DEBUG.

    @GROUP.command(
        "sentinel|debug",
        -2,
        ADMIN,
        since="7.0.0",
        complexity="O(N) where N is the number of configurable parameters",
        summary="Shows or changes the periods of the sentinel's work.",
        syntax="[data=<parameter value> [<parameter value> ...]]",
    )
    def debug(self, ctx: Session, argv: list[bytes]) -> Reply:
        """Names and milliseconds, or OK; what stands before a refused one holds all the same."""
        settings = self._machine.settings
        if len(argv) == 2:
            items: list[Reply] = []
            for name in PERIODS:
                value: int = getattr(settings, name.replace("-", "_"))
                items += (name.upper().encode(), b"%d" % value)
            return Map(items)
        for at in range(2, len(argv), 2):
            name = decode(argv[at])
            if name.lower() not in PERIODS or at + 1 == len(argv):
                raise _unknown(name, "DEBUG")
            number = parse_integer(argv[at + 1])
            if number is None or number <= 0:
                raise _bad_value(decode(argv[at + 1]), name, "DEBUG")
            setattr(settings, name.lower().replace("-", "_"), number)
        self._watcher.settle()
        return OK


def _is_valid(option: str, value: str) -> bool:
    if option in ("resolve-hostnames", "announce-hostnames"):
        return value.lower() in ("yes", "no")
    if option == "announce-port":
        number = parse_integer(encode(value))
        return number is not None and 0 <= number <= LARGEST_PORT
    return option != "loglevel" or value.lower() in LEVELS


def _yes_or_no(value: bool) -> str:
    return "yes" if value else "no"


def _bad_value(value: str, name: str, command: str) -> ReplyError:
    return ReplyError(encode(f"ERR Invalid argument '{value}' for SENTINEL {command} '{name}'"))


def _unknown(name: str, command: str) -> ReplyError:
    text = f"ERR Unknown option or number of arguments for SENTINEL {command} '{name}'"
    return ReplyError(encode(text))
