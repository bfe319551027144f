"""What makes certain texts valid, with Redis's reasons for refusing them."""

from typing import Final

from node.config.directive import ConfigError

MAX_HOST_NAME: Final = 256
TITLE_VARIABLES: Final = (
    "title",
    "listen-addr",
    "server-mode",
    "port",
    "tls-port",
    "unixsocket",
    "config-file",
)
_AUXILIARY: Final = frozenset("!#$%&()*+:;<>?@[]^{|}~")


def check_snapshot_name(name: str) -> None:
    """A file name without a folder."""
    if "/" in name or "\\" in name:
        raise ConfigError("dbfilename can't be a path, just a filename")


def check_log_name(name: str) -> None:
    """A file name without a folder, and not empty."""
    if not name:
        raise ConfigError("appendfilename can't be empty")
    if "/" in name or "\\" in name:
        raise ConfigError("appendfilename can't be a path, just a filename")


def check_log_folder(name: str) -> None:
    """The name of a folder inside the working directory."""
    if not name:
        raise ConfigError("appenddirname can't be empty")
    if "/" in name or "\\" in name:
        raise ConfigError("appenddirname can't be a path, just a dirname")


def check_host_name(name: str) -> None:
    """Letters, digits, hyphens and dots, less than 256 of them."""
    if len(name) >= MAX_HOST_NAME:
        raise ConfigError(f"Hostnames must be less than {MAX_HOST_NAME} characters")
    if not all(char.isascii() and (char.isalnum() or char in "-.") for char in name):
        raise ConfigError("Hostnames may only contain alphanumeric characters, hyphens or dots")


def check_node_name(name: str) -> None:
    """Printable ASCII that needs no quoting in the cluster's file and messages."""
    if not all("!" <= char <= "~" and char not in _AUXILIARY for char in name):
        raise ConfigError("Announced human node name contained invalid character")
    if len(name) >= MAX_HOST_NAME:
        raise ConfigError(f"Hostnames must be less than {MAX_HOST_NAME} characters")


def check_title_template(template: str) -> None:
    """Text, not empty, with known variables in braces; `{{` stands for one brace."""
    rest = template
    valid = bool(template)
    while valid and "{" in rest:
        _, _, rest = rest.partition("{")
        if rest.startswith("{"):
            rest = rest[1:]
            continue
        variable, closed, rest = rest.partition("}")
        valid = bool(closed) and variable in TITLE_VARIABLES
    if not valid:
        raise ConfigError("template format is invalid or contains unknown variables")


def check_defragmentation(enabled: bool) -> None:
    """Refuses to switch on what needs another memory allocator, as Redis does without it."""
    if enabled:
        raise ConfigError(
            "Active defragmentation cannot be enabled: it requires a Redis server compiled "
            "with a modified Jemalloc like the one shipped by default with the Redis source "
            "distribution"
        )


def check_shutdown_flags(flags: tuple[str, ...]) -> None:
    """`save` and `nosave` exclude each other."""
    if "save" in flags and "nosave" in flags:
        raise ConfigError("shutdown options SAVE and NOSAVE can't be used simultaneously")
