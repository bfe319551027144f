"""Configuration: directives declared once, redis.conf syntax, CONFIG SET that is all or nothing."""

from node.config import directives, dormant
from node.config.directive import (
    Bool,
    ConfigError,
    Directive,
    Enum,
    Flags,
    Integer,
    Memory,
    Octal,
    Text,
    Value,
)
from node.config.settings import (
    Config,
    ConfigFileError,
    LoadingError,
    SetError,
    Statement,
    UnreadableFile,
)

__all__ = [
    "Bool",
    "Config",
    "ConfigError",
    "ConfigFileError",
    "Directive",
    "Enum",
    "Flags",
    "Integer",
    "LoadingError",
    "Memory",
    "Octal",
    "SetError",
    "Statement",
    "Text",
    "UnreadableFile",
    "Value",
    "make_config",
]


def make_config(directory: str = "") -> Config:
    """A Config that knows every directive of a data server, each at its default."""
    config = Config(directory)
    for _, section in directives.SECTIONS + dormant.SECTIONS:
        config.declare(section)
    return config
