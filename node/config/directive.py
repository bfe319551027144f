"""A directive: a name with a type, a default, bounds and rules, declared once by its component.

`parse` turns the words of a config line or of CONFIG SET into a value and refuses what is out of
bounds with Redis's reason (a `ConfigError`), `write` turns the value back into what CONFIG GET
replies, `lines` into what CONFIG REWRITE writes. A directive holds no value: `Config` does.
"""

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from node.config.syntax import (
    INT64_MAX,
    encode,
    format_memory,
    parse_integer,
    parse_memory,
    parse_octal,
)
from node.words import quote

Value: TypeAlias = bool | int | str | tuple[str, ...]
"""What a directive holds: bool, int, text, or (for those with many arguments) a tuple of words."""

INT_MIN: Final = -(2**31)
INT_MAX: Final = 2**31 - 1
UINT_MAX: Final = 2**32 - 1


class ConfigError(Exception):
    """A value that is refused; the text is Redis's reason, without any prefix."""


class Directive:
    """What all directives have in common.

    name          the name in config files, CONFIG GET and CONFIG SET; lower case
    default       the value when nothing sets it
    help          one line for the reference, in our own words
    aliases       other names for the same value, listed by CONFIG GET beside the first
    mutable       CONFIG SET may change it
    hidden        CONFIG GET reports it only to who asks for it by its exact name
    protected     CONFIG SET may change it only as `enable-protected-configs` allows
    sensitive     the value is kept out of SLOWLOG and MONITOR
    deny_loading  CONFIG SET is refused while a data set is loading
    multiple      takes any number of arguments; otherwise exactly one
    meaning       False: accepted, kept and reported, but nothing here acts on it
    """

    __slots__ = (
        "aliases",
        "default",
        "deny_loading",
        "help",
        "hidden",
        "meaning",
        "multiple",
        "mutable",
        "name",
        "protected",
        "sensitive",
    )

    kind: str = "special"

    def __init__(
        self,
        name: str,
        default: Value,
        help: str,
        *,
        aliases: tuple[str, ...] = (),
        mutable: bool = True,
        hidden: bool = False,
        protected: bool = False,
        sensitive: bool = False,
        deny_loading: bool = False,
        multiple: bool = False,
        meaning: bool = True,
    ) -> None:
        self.name = name
        self.default = default
        self.help = help
        self.aliases = aliases
        self.mutable = mutable
        self.hidden = hidden
        self.protected = protected
        self.sensitive = sensitive
        self.deny_loading = deny_loading
        self.multiple = multiple
        self.meaning = meaning

    def parse(self, words: Sequence[str], current: Value) -> Value:
        """The value that the arguments stand for; `current` is what the directive holds now.

        Raises ConfigError with Redis's reason.
        """
        raise NotImplementedError

    def accumulate(self, words: Sequence[str], current: Value, first: bool) -> Value:
        """As `parse`, for a line of a config file; `first` where no line of it came before."""
        return self.parse(words, current)

    def write(self, value: Value) -> str:
        """The value as CONFIG GET replies it."""
        if isinstance(value, tuple):
            return " ".join(value)
        return str(value)

    def lines(self, value: Value) -> list[tuple[bytes, bool]]:
        """The config lines for CONFIG REWRITE, each with whether it is written where none was.

        No lines at all means that lines of this directive are removed.
        """
        return [(encode(f"{self.name} {self.write(value)}"), value != self.default)]

    def ignores(self, value: Value) -> bool:
        """Whether somebody who sets this value expects what does not happen."""
        return not self.meaning and value != self.default

    def bounds(self) -> str:
        """What values are allowed, for the reference."""
        return ""


class Bool(Directive):
    """`yes` or `no`."""

    __slots__ = ("check",)

    kind = "yes/no"

    def __init__(
        self,
        name: str,
        default: bool,
        help: str,
        *,
        aliases: tuple[str, ...] = (),
        mutable: bool = True,
        hidden: bool = False,
        deny_loading: bool = False,
        meaning: bool = True,
        check: Callable[[bool], None] | None = None,
    ) -> None:
        super().__init__(
            name,
            default,
            help,
            aliases=aliases,
            mutable=mutable,
            hidden=hidden,
            deny_loading=deny_loading,
            meaning=meaning,
        )
        self.check = check

    def parse(self, words: Sequence[str], current: Value) -> Value:
        """True or False."""
        word = words[0].lower()
        if word not in ("yes", "no"):
            raise ConfigError("argument must be 'yes' or 'no'")
        value = word == "yes"
        if self.check is not None:
            self.check(value)
        return value

    def write(self, value: Value) -> str:
        """`yes` or `no`."""
        return "yes" if value else "no"


class Integer(Directive):
    """A decimal number within bounds; `clamp` moves values outside that range to its edge."""

    __slots__ = ("clamp", "lower", "upper")

    kind = "integer"

    def __init__(
        self,
        name: str,
        default: int,
        lower: int,
        upper: int,
        help: str,
        *,
        aliases: tuple[str, ...] = (),
        mutable: bool = True,
        hidden: bool = False,
        meaning: bool = True,
        clamp: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(
            name, default, help, aliases=aliases, mutable=mutable, hidden=hidden, meaning=meaning
        )
        self.lower = lower
        self.upper = upper
        self.clamp = clamp

    def parse(self, words: Sequence[str], current: Value) -> Value:
        """An int within the bounds."""
        number = parse_integer(words[0])
        if number is None:
            raise ConfigError("argument couldn't be parsed into an integer")
        return self.admit(number)

    def admit(self, number: int) -> int:
        """The number, moved into the range of `clamp`; raises ConfigError where out of bounds."""
        if not self.lower <= number <= self.upper:
            raise ConfigError(f"argument must be between {self.lower} and {self.upper} inclusive")
        if self.clamp is None:
            return number
        return max(self.clamp[0], min(self.clamp[1], number))

    def bounds(self) -> str:
        """The range, with the natural limits of the number types left out."""
        lower, upper = self.clamp if self.clamp is not None else (self.lower, self.upper)
        low = "" if lower == INT_MIN else str(lower)
        high = "" if upper in (INT_MAX, UINT_MAX) or upper >= INT64_MAX else str(upper)
        return f"{low} … {high}" if low and high else f"≥ {low}" if low else ""


class Octal(Integer):
    """A number in octal, such as a file mode."""

    __slots__ = ()

    kind = "octal"

    def parse(self, words: Sequence[str], current: Value) -> Value:
        """An int within the bounds."""
        number = parse_octal(words[0])
        if number is None:
            raise ConfigError("argument couldn't be parsed as an octal number")
        if not self.lower <= number <= self.upper:
            raise ConfigError(
                f"argument must be between {self.lower:o} and {self.upper:o} inclusive"
            )
        return number

    def write(self, value: Value) -> str:
        """The number in octal, without a prefix."""
        assert isinstance(value, int)
        return f"{value:o}"

    def bounds(self) -> str:
        """The range in octal."""
        return f"{self.lower:o} … {self.upper:o}"


class Memory(Integer):
    """A size in bytes: `100mb`. With `percent`, `5%` too, which is held as -5."""

    __slots__ = ("percent",)

    kind = "memory"

    def __init__(
        self,
        name: str,
        default: int,
        lower: int,
        upper: int,
        help: str,
        *,
        aliases: tuple[str, ...] = (),
        mutable: bool = True,
        meaning: bool = True,
        clamp: tuple[int, int] | None = None,
        percent: bool = False,
    ) -> None:
        super().__init__(
            name,
            default,
            lower,
            upper,
            help,
            aliases=aliases,
            mutable=mutable,
            meaning=meaning,
            clamp=clamp,
        )
        self.percent = percent

    def parse(self, words: Sequence[str], current: Value) -> Value:
        """Bytes, or a percentage as a negative int."""
        size = parse_memory(words[0])
        if size is None and self.percent and words[0].endswith("%"):
            share = parse_integer(words[0][:-1])
            if share is not None and share >= 0:
                if share > 100:
                    raise ConfigError("percentage argument must be less or equal to 100")
                return -share
        if size is None:
            kind = "memory or percent" if self.percent else "memory"
            raise ConfigError(f"argument must be a {kind} value")
        return self.admit(size)

    def write(self, value: Value) -> str:
        """Bytes as a plain number, a percentage with its sign."""
        assert isinstance(value, int)
        return str(value) if value >= 0 else f"{-value}%"

    def lines(self, value: Value) -> list[tuple[bytes, bool]]:
        """The size in its largest whole unit."""
        assert isinstance(value, int)
        size = format_memory(value) if value >= 0 else f"{-value}%"
        return [(encode(f"{self.name} {size}"), value != self.default)]

    def bounds(self) -> str:
        """The range in bytes."""
        low = format_memory(max(self.clamp[0] if self.clamp is not None else self.lower, 0))
        return f"≥ {low}" + (", or 0% … 100%" if self.percent else "")


class Enum(Directive):
    """One of a few words, in any case; held in the spelling of `choices`.

    `synonyms` are further words that mean one of the choices.
    """

    __slots__ = ("choices", "listed", "synonyms")

    kind = "enum"

    def __init__(
        self,
        name: str,
        default: str,
        choices: tuple[str, ...],
        help: str,
        *,
        aliases: tuple[str, ...] = (),
        mutable: bool = True,
        hidden: bool = False,
        deny_loading: bool = False,
        meaning: bool = True,
        synonyms: tuple[tuple[str, str], ...] = (),
        listed: tuple[str, ...] = (),
    ) -> None:
        super().__init__(
            name,
            default,
            help,
            aliases=aliases,
            mutable=mutable,
            hidden=hidden,
            deny_loading=deny_loading,
            meaning=meaning,
        )
        self.choices = choices
        self.synonyms = synonyms
        self.listed = listed or choices

    def parse(self, words: Sequence[str], current: Value) -> Value:
        """The choice in its own spelling."""
        word = words[0].lower()
        for synonym, choice in self.synonyms:
            if word == synonym:
                return choice
        if word not in self.choices:
            raise ConfigError(f"argument(s) must be one of the following: {', '.join(self.listed)}")
        return word

    def bounds(self) -> str:
        """The words."""
        return ", ".join(self.listed)


class Flags(Directive):
    """Any of a few words together; held as a tuple in the order of `choices`.

    `none` is the word for the empty set; it may stand beside others, where it says nothing.
    """

    __slots__ = ("check", "choices", "none")

    kind = "flags"

    def __init__(
        self,
        name: str,
        none: str,
        choices: tuple[str, ...],
        help: str,
        *,
        mutable: bool = True,
        meaning: bool = True,
        check: Callable[[tuple[str, ...]], None] | None = None,
    ) -> None:
        super().__init__(name, (), help, mutable=mutable, multiple=True, meaning=meaning)
        self.none = none
        self.choices = choices
        self.check = check

    def parse(self, words: Sequence[str], current: Value) -> Value:
        """The flags that are set, without `none`."""
        given = [word.lower() for word in words]
        if not given or any(word not in self.choices and word != self.none for word in given):
            everything = ", ".join((self.none, *self.choices))
            raise ConfigError(f"argument(s) must be one of the following: {everything}")
        value = tuple(choice for choice in self.choices if choice in given)
        if self.check is not None:
            self.check(value)
        return value

    def write(self, value: Value) -> str:
        """The flags in their own order, or the word for none."""
        assert isinstance(value, tuple)
        return " ".join(value) or self.none

    def bounds(self) -> str:
        """The words."""
        return ", ".join((self.none, *self.choices))


class Text(Directive):
    """Any text. Where `absent_if_empty`, the empty text is never written to a config file."""

    __slots__ = ("absent_if_empty", "check")

    kind = "text"

    def __init__(
        self,
        name: str,
        default: str,
        help: str,
        *,
        aliases: tuple[str, ...] = (),
        mutable: bool = True,
        hidden: bool = False,
        protected: bool = False,
        sensitive: bool = False,
        deny_loading: bool = False,
        meaning: bool = True,
        absent_if_empty: bool = False,
        check: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__(
            name,
            default,
            help,
            aliases=aliases,
            mutable=mutable,
            hidden=hidden,
            protected=protected,
            sensitive=sensitive,
            deny_loading=deny_loading,
            meaning=meaning,
        )
        self.absent_if_empty = absent_if_empty
        self.check = check

    def parse(self, words: Sequence[str], current: Value) -> Value:
        """The text itself."""
        if self.check is not None:
            self.check(words[0])
        return words[0]

    def lines(self, value: Value) -> list[tuple[bytes, bool]]:
        """The quoted text."""
        assert isinstance(value, str)
        if self.absent_if_empty and not value:
            return []
        return [(encode(self.name) + b" " + quote(encode(value)), value != self.default)]
