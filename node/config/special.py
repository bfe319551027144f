"""Directives with rules of their own: save points, buffer limits, addresses, event classes.

Those with several arguments hold a tuple of words, normalised, so that two spellings of one
setting compare equal.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from node.config.directive import INT_MAX, ConfigError, Directive, Text, Value
from node.config.syntax import (
    decode,
    encode,
    format_memory,
    parse_lenient_integer,
    parse_memory,
)
from node.values.number import parse_float
from node.words import quote

MAX_BIND_ADDRESSES: Final = 16


class Directory(Text):
    """The working directory, always absolute once set; a relative one starts at the current one."""

    __slots__ = ()

    kind = "directory"

    def parse(self, words: Sequence[str], current: Value) -> Value:
        """The real path of a directory that exists and may be entered."""
        assert isinstance(current, str)
        if not words[0]:
            raise ConfigError("No such file or directory")
        path = Path(current, words[0])
        try:
            path = path.resolve(strict=True)
            (path / ".").stat()
        except OSError as error:
            raise ConfigError(error.strerror or str(error)) from None
        return str(path)

    def lines(self, value: Value) -> list[tuple[bytes, bool]]:
        """Written always, as an absolute path."""
        assert isinstance(value, str)
        return [(encode(self.name) + b" " + quote(encode(value)), True)]


class SavePoints(Directive):
    """Pairs of seconds and changes, held as one flat tuple of words."""

    __slots__ = ()

    kind = "seconds and changes, repeated"

    def parse(self, words: Sequence[str], current: Value) -> Value:
        """The words, normalised; none where there is one empty argument."""
        if len(words) == 1 and not words[0]:
            return ()
        if len(words) % 2:
            raise ConfigError("Invalid save parameters")
        value: list[str] = []
        for index, word in enumerate(words):
            number = parse_lenient_integer(word)
            if number is None or number < 1 - index % 2:
                raise ConfigError("Invalid save parameters")
            value.append(str(number))
        return tuple(value)

    def accumulate(self, words: Sequence[str], current: Value, first: bool) -> Value:
        """The first line of a file replaces the default, further lines add to it, `""` empties."""
        value = self.parse(words, current)
        assert isinstance(value, tuple)
        assert isinstance(current, tuple)
        return value if first or not value else current + value

    def ignores(self, value: Value) -> bool:
        """Who sets no save points gets none."""
        return not self.meaning and value not in (self.default, ())

    def lines(self, value: Value) -> list[tuple[bytes, bool]]:
        """One line for each pair."""
        assert isinstance(value, tuple)
        if not value:
            return [(b'save ""', True)]
        pairs = zip(value[::2], value[1::2], strict=True)
        return [(encode(f"save {seconds} {changes}"), True) for seconds, changes in pairs]


OUTPUT_BUFFER_CLASSES: Final = ("normal", "slave", "pubsub")


class OutputBufferLimits(Directive):
    """`class hard soft seconds` for some client classes; held for all three, in one flat tuple."""

    __slots__ = ()

    kind = "class, hard limit, soft limit, seconds, repeated"

    def parse(self, words: Sequence[str], current: Value) -> Value:
        """The limits of all classes: twelve words, sizes in bytes."""
        if len(words) % 4:
            raise ConfigError("Wrong number of arguments in buffer limit configuration.")
        assert isinstance(current, tuple)
        value = list(current)
        for at in range(0, len(words), 4):
            name = words[at].lower()
            name = "slave" if name == "replica" else name
            if name not in OUTPUT_BUFFER_CLASSES:
                raise ConfigError("Invalid client class specified in buffer limit configuration.")
            hard, soft = parse_memory(words[at + 1]), parse_memory(words[at + 2])
            seconds = parse_lenient_integer(words[at + 3])
            if hard is None or soft is None or seconds is None or not 0 <= seconds <= INT_MAX:
                raise ConfigError(
                    "Error in hard, soft or soft_seconds setting in buffer limit configuration."
                )
            place = OUTPUT_BUFFER_CLASSES.index(name) * 4
            value[place : place + 4] = [name, str(hard), str(soft), str(seconds)]
        return tuple(value)

    def lines(self, value: Value) -> list[tuple[bytes, bool]]:
        """One line for each class."""
        assert isinstance(value, tuple)
        assert isinstance(self.default, tuple)
        result: list[tuple[bytes, bool]] = []
        for at in range(0, len(value), 4):
            name = "replica" if value[at] == "slave" else value[at]
            hard, soft = format_memory(int(value[at + 1])), format_memory(int(value[at + 2]))
            line = encode(f"{self.name} {name} {hard} {soft} {value[at + 3]}")
            result.append((line, value[at : at + 4] != self.default[at : at + 4]))
        return result


class OomScores(Directive):
    """Three numbers: for a master, a replica and a background child."""

    __slots__ = ()

    kind = "three integers"

    def parse(self, words: Sequence[str], current: Value) -> Value:
        """Three normalised words."""
        if len(words) != 3:
            raise ConfigError("wrong number of arguments")
        value: list[str] = []
        for word in words:
            number = parse_lenient_integer(word)
            if number is None or not -2000 <= number <= 2000:
                raise ConfigError(
                    "Invalid oom-score-adj-values, elements must be between -2000 and 2000."
                )
            value.append(str(number))
        return tuple(value)


class KeyspaceEvents(Directive):
    """Classes of keyspace events, one letter each; held in the order in which Redis writes them."""

    __slots__ = ()

    kind = "event classes"

    ALL: Final = "g$lshzxetd"
    ALONE: Final = "KEmn"

    def parse(self, words: Sequence[str], current: Value) -> Value:
        """The letters, with `A` for all classes that it stands for."""
        given = set(words[0])
        if given - set(self.ALL + self.ALONE + "A"):
            raise ConfigError("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.")
        every = "A" in given or given >= set(self.ALL)
        classes = "A" if every else "".join(letter for letter in self.ALL if letter in given)
        return classes + "".join(letter for letter in self.ALONE if letter in given)

    def lines(self, value: Value) -> list[tuple[bytes, bool]]:
        """The quoted letters."""
        assert isinstance(value, str)
        return [(encode(self.name) + b" " + quote(encode(value)), value != self.default)]

    def bounds(self) -> str:
        """The letters."""
        return f"any of {self.ALL}{self.ALONE}, A for {self.ALL}"


class Addresses(Directive):
    """Addresses to listen on; held as a tuple, empty for none."""

    __slots__ = ()

    kind = "addresses"

    def parse(self, words: Sequence[str], current: Value) -> Value:
        """The addresses as given."""
        if len(words) > MAX_BIND_ADDRESSES:
            raise ConfigError("Too many bind addresses specified.")
        if len(words) == 1 and not words[0]:
            return ()
        return tuple(words)

    def lines(self, value: Value) -> list[tuple[bytes, bool]]:
        """All addresses on one line; nothing for the default."""
        assert isinstance(value, tuple)
        if value == self.default:
            return []
        return [(encode(f"{self.name} {' '.join(value) or decode(quote(b''))}"), True)]

    def bounds(self) -> str:
        """How many."""
        return f"at most {MAX_BIND_ADDRESSES}"


class MasterAddress(Directive):
    """A host and a port, or `no one`; held as a tuple of two words, empty for no master."""

    __slots__ = ()

    kind = "host and port"

    def parse(self, words: Sequence[str], current: Value) -> Value:
        """Host and port, or nothing."""
        if len(words) != 2:
            raise ConfigError("wrong number of arguments")
        if words[0].lower() == "no" and words[1].lower() == "one":
            return ()
        port = parse_lenient_integer(words[1])
        if port is None or not 0 <= port <= 65535:
            raise ConfigError("Invalid master port")
        return (words[0], str(port))

    def lines(self, value: Value) -> list[tuple[bytes, bool]]:
        """The address; nothing for a master."""
        assert isinstance(value, tuple)
        if not value:
            return []
        return [(encode(f"{self.name} {value[0]} {value[1]}"), True)]


class Percentiles(Directive):
    """Numbers from 0 to 100; held as words in their shortest form."""

    __slots__ = ()

    kind = "percentiles"

    def parse(self, words: Sequence[str], current: Value) -> Value:
        """The percentiles, normalised; none where there is one empty argument."""
        if len(words) == 1 and not words[0]:
            return ()
        value: list[str] = []
        for word in words:
            number = parse_float(encode(word))
            if number is None:
                raise ConfigError("Invalid latency-tracking-info-percentiles parameters")
            if not 0.0 <= number <= 100.0:
                raise ConfigError(
                    "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]"
                )
            value.append(f"{number:f}".rstrip("0").rstrip("."))
        return tuple(value)

    def lines(self, value: Value) -> list[tuple[bytes, bool]]:
        """Written always."""
        assert isinstance(value, tuple)
        return [(encode(f"{self.name} {' '.join(value) or decode(quote(b''))}"), True)]

    def bounds(self) -> str:
        """The range."""
        return "0 … 100"
