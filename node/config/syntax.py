"""The syntax of redis.conf beyond words: memory sizes, numbers, option lists.

Everything here is pure and works on bytes, because a password or a file name need not be UTF-8.
The behaviour is that of `memtoull` and its like in Redis (util.c).
"""

import re
from typing import Final

from node.values import number
from node.words import quote, split_words

_LENIENT_INTEGER: Final = re.compile(r"(?:\s*[+-]?[0-9]+)?\Z", re.ASCII)
_OCTAL: Final = re.compile(r"\s*[+-]?[0-7]+\Z", re.ASCII)
_MEMORY: Final = re.compile(r"([0-9]*)([a-zA-Z]*)\Z", re.ASCII)
_UNITS: Final = {
    "": 1,
    "b": 1,
    "k": 1000,
    "kb": 1024,
    "m": 1000 * 1000,
    "mb": 1024 * 1024,
    "g": 1000 * 1000 * 1000,
    "gb": 1024 * 1024 * 1024,
}

INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1
UINT64_MAX: Final = 2**64 - 1


def decode(octets: bytes) -> str:
    """The text of bytes from a file or a client; bytes that are not UTF-8 survive a round trip."""
    return octets.decode("utf-8", "surrogateescape")


def encode(text: str) -> bytes:
    """The bytes that `decode` made the text from."""
    return text.encode("utf-8", "surrogateescape")


def parse_integer(text: str) -> int | None:
    """A signed 64-bit number as Redis's `string2ll` takes it: no blanks, no `+`, `-0` or `007`."""
    return number.parse_integer(encode(text))


def parse_lenient_integer(text: str) -> int | None:
    """A number as C's `strtoll` takes it: clamped; `+`, leading blanks, zeros pass; "" is 0."""
    if not _LENIENT_INTEGER.match(text) or len(text) > 4000:
        return None
    return max(INT64_MIN, min(INT64_MAX, int(text or "0")))


def parse_octal(text: str) -> int | None:
    """An octal number as C's `strtoll` with base 8 takes it."""
    if not _OCTAL.match(text) or len(text) > 4000:
        return None
    value = int(text, 8)
    return value if INT64_MIN <= value <= INT64_MAX else None


def parse_memory(text: str) -> int | None:
    """Bytes from a memory size: digits and an optional unit (`b k kb m mb g gb`, any case).

    `k m g` are powers of 1000 and `kb mb gb` powers of 1024. No digits count as 0, as in Redis. A
    size that does not fit in 64 bits becomes the largest that does.
    """
    match = _MEMORY.match(text)
    if match is None or len(match[1]) > 127:
        return None
    unit = _UNITS.get(match[2].lower())
    if unit is None:
        return None
    return min(int(match[1] or "0") * unit, UINT64_MAX)


def format_memory(size: int) -> str:
    """A size in bytes as CONFIG REWRITE writes it: the largest of gb, mb, kb that divides it."""
    for unit in ("gb", "mb", "kb"):
        if size and size % _UNITS[unit] == 0:
            return f"{size // _UNITS[unit]}{unit}"
    return str(size)


def options_text(arguments: list[bytes]) -> bytes:
    """The config lines that command line arguments stand for: `--port 6380` is `port "6380"`.

    The rules are those of redis-server's `main`: an argument that starts with `--` begins a new
    line unless the option before it has no value yet (so a value may start with `--`), an argument
    may hold both (`"--port 6380"`), every other argument is one quoted word, and `--save` directly
    followed by another option or by nothing means `save ""`.
    """
    lines: list[bytes] = []
    wants_value = False
    for index, argument in enumerate(arguments):
        if argument.startswith(b"--") and not wants_value:
            line = argument[2:] + b" "
            words = split_words(argument)
            wants_value = words is not None and len(words) == 1
            last = index == len(arguments) - 1
            if wants_value and argument.lower() == b"--save":
                if last or arguments[index + 1].startswith(b"--"):
                    line += b'""'
                    wants_value = False
            lines.append(line)
            continue
        if not lines:
            lines.append(b"")
        lines[-1] += quote(argument) + b" "
        wants_value = False
    return b"\n".join(lines)
