"""The configuration of one node: its directives, what they hold, and who is told of a change.

A component declares its directives, reads them through the typed accessors, and copies those it
needs often into its own attributes, asking with `on_change` to be told when they change. A
`Config` opens the files it is told to read and looks at directories; it opens no socket, reads no
clock, changes no process state, and knows nothing of an engine.
"""

import glob
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from node.config.directive import ConfigError, Directive, Value
from node.config.special import OUTPUT_BUFFER_CLASSES
from node.config.syntax import decode, encode, options_text
from node.version import SENTRIO_VERSION
from node.words import split_words

MAX_INCLUDE_DEPTH = 64

DEPRECATED = ("list-max-ziplist-entries", "list-max-ziplist-value", "lua-replicate-commands")
"""Directives that Redis takes with one argument and forgets."""

STATEMENTS = ("include", "loadmodule", "rename-command", "sentinel", "user")
"""What a config file may hold besides directives."""

Listener = Callable[[], None]
"""Told after its directives changed; may raise ConfigError, which takes the whole change back."""


class ConfigFileError(Exception):
    """The configuration cannot be used. The text is the block that redis-server prints to stderr.

    origin, number, line    where it is: a file's path or `command line`, a line number from 1, and
                            the trimmed line; empty, 0 and empty where it is about no line
    reason                  what is wrong, in Redis's words
    """

    def __init__(self, reason: str, origin: str = "", number: int = 0, line: str = "") -> None:
        self.reason = reason
        self.origin = origin
        self.number = number
        self.line = line
        block = f"\n*** FATAL CONFIG FILE ERROR (Sentrio {SENTRIO_VERSION}) ***\n"
        if number:
            block += f"Reading the configuration file, at line {number}\n>>> '{line}'\n"
        if origin:
            block += f"In {origin}\n"
        super().__init__(block + reason)


class UnreadableFile(ConfigFileError):
    """A config file that cannot be opened; `message` is the line that redis-server logs."""

    def __init__(self, path: str, error: OSError) -> None:
        reason = error.strerror or str(error)
        super().__init__(f"Can't open config file '{path}': {reason}")
        self.message = f"Fatal error, can't open config file '{path}': {reason}"


class SetError(Exception):
    """CONFIG SET is refused and nothing has changed; the text is Redis's, without `ERR`."""


class LoadingError(SetError):
    """CONFIG SET is refused because the directive must not change while data is loading."""

    def __init__(self) -> None:
        super().__init__("Redis is loading the dataset in memory")


class Statement:
    """A line of a config file that is no directive, such as `rename-command`.

    `words` are its arguments without the name. `refuse` makes the error that names its place.
    """

    __slots__ = ("line", "name", "number", "origin", "words")

    def __init__(
        self, name: str, words: tuple[str, ...], origin: str, number: int, line: str
    ) -> None:
        self.name = name
        self.words = words
        self.origin = origin
        self.number = number
        self.line = line

    def refuse(self, reason: str) -> ConfigFileError:
        """The error for this line, to be raised."""
        return ConfigFileError(reason, self.origin, self.number, self.line)


class Config:
    """All directives of a node with their values.

    directory   where relative paths start until a `dir` directive is read; the process's own
                working directory if not given
    warn        takes lines for the log (level warning); the composition root sets it
    examine     is shown each statement as it is read and may raise ConfigError to refuse it
    file        absolute path of the file that CONFIG REWRITE writes, or empty
    """

    def __init__(self, directory: str = "", warn: Callable[[str], None] | None = None) -> None:
        self.file = ""
        self.warn: Callable[[str], None] = warn if warn is not None else _ignore
        self.examine: Callable[[Statement], None] = _admit
        self.loaded: set[str] = set()
        self._directory = directory
        self._directives: dict[str, Directive] = {}
        self._primary: dict[str, Directive] = {}
        self._values: dict[str, Value] = {}
        self._listeners: dict[str, list[Listener]] = {}
        self._statements: list[Statement] = []

    # Declaring

    def declare(self, directives: Iterable[Directive]) -> None:
        """Add directives, each holding its default. No name may be declared twice."""
        for directive in directives:
            for name in (directive.name, *directive.aliases):
                assert name not in self._directives, f"{name} is declared twice"
                self._directives[name] = directive
            self._primary[directive.name] = directive
            self._values[directive.name] = directive.default

    def directives(self) -> list[Directive]:
        """All directives in the order in which they were declared."""
        return list(self._primary.values())

    def find(self, name: str) -> Directive | None:
        """The directive with that name or alias, in any case."""
        return self._directives.get(name.lower())

    # Reading values

    def value(self, name: str) -> Value:
        """The value of a declared directive, by its name or an alias."""
        directive = self._directives[name]
        value = self._values[directive.name]
        if directive.name == "dir" and not value:
            return self._directory or str(Path.cwd())
        return value

    def boolean(self, name: str) -> bool:
        """The value of a yes/no directive."""
        value = self.value(name)
        assert isinstance(value, bool)
        return value

    def integer(self, name: str) -> int:
        """The value of a number or a size (bytes); a percentage is a negative number."""
        value = self.value(name)
        assert isinstance(value, int)
        return value

    def text(self, name: str) -> str:
        """The value of a text, enum or directory directive."""
        value = self.value(name)
        assert isinstance(value, str)
        return value

    def octets(self, name: str) -> bytes:
        """The bytes of a text directive, as they were in the file or in the command."""
        return encode(self.text(name))

    def values(self, name: str) -> tuple[str, ...]:
        """The words of a directive with several arguments, such as `bind`."""
        value = self.value(name)
        assert isinstance(value, tuple)
        return value

    def output_buffer_limits(self) -> dict[str, tuple[int, int, int]]:
        """Hard limit (bytes), soft limit (bytes), seconds over the soft one; by client class.

        The classes are `normal`, `slave` and `pubsub`; 0 means no limit.
        """
        words = self.values("client-output-buffer-limit")
        limits: dict[str, tuple[int, int, int]] = {}
        for index, name in enumerate(OUTPUT_BUFFER_CLASSES):
            at = index * 4
            limits[name] = (int(words[at + 1]), int(words[at + 2]), int(words[at + 3]))
        return limits

    def save_points(self) -> list[tuple[int, int]]:
        """Pairs of seconds and changes of the `save` directive."""
        words = [int(word) for word in self.values("save")]
        return list(zip(words[::2], words[1::2], strict=True))

    def path(self, name: str) -> str:
        """The absolute path of the file that a text directive names, starting at `dir`."""
        return str(Path(self.text("dir"), self.text(name)))

    def written(self, name: str) -> bytes:
        """The value as CONFIG GET replies it."""
        directive = self._directives[name]
        return encode(directive.write(self.value(directive.name)))

    def get(
        self, patterns: Sequence[bytes], match: Callable[[bytes, bytes], bool]
    ) -> dict[bytes, bytes]:
        """CONFIG GET: names as first asked for or as declared, to values; each name once.

        A pattern without `*?[` is a name, found in any case; hidden directives are found only so.
        `match(pattern, name)` is the glob match without regard to case.
        """
        found: dict[bytes, bytes] = {}
        seen: set[bytes] = set()
        for pattern in patterns:
            if not any(char in pattern for char in b"*?["):
                directive = self.find(decode(pattern))
                if directive is not None and pattern.lower() not in seen:
                    seen.add(pattern.lower())
                    found[pattern] = self.written(directive.name)
                continue
            for name, directive in self._directives.items():
                octets = encode(name)
                if not directive.hidden and octets not in seen and match(pattern, octets):
                    seen.add(octets)
                    found[octets] = self.written(directive.name)
        return found

    def idle(self) -> list[str]:
        """Directives that are not at their default although nothing here acts on them."""
        return [
            directive.name
            for directive in self._primary.values()
            if directive.ignores(self._values[directive.name])
        ]

    # Changing values while running

    def on_change(self, names: str | Sequence[str], listener: Listener) -> None:
        """Call `listener` after `set` changed one of the directives, once for each `set`.

        It is not called for what config files and the command line say: those are read before
        components start. A listener that raises ConfigError refuses the change: all values are
        what they were and all listeners that had been told are told again.
        """
        for name in (names,) if isinstance(names, str) else names:
            directive = self._directives[name]
            self._listeners.setdefault(directive.name, []).append(listener)

    def set(
        self,
        pairs: Sequence[tuple[str, str]],
        *,
        local: bool = True,
        loading: bool = False,
    ) -> None:
        """CONFIG SET of all pairs of name and value, or of none.

        local     whether the client is on this machine, for `enable-protected-configs local`
        loading   whether a data set is being loaded

        Raises SetError with Redis's text, LoadingError for what must not change while loading.
        """
        directives = self._admit(pairs, local, loading)
        before = {directive.name: self.value(directive.name) for directive in directives}
        changed: list[str] = []
        for directive, (name, text) in zip(directives, pairs, strict=True):
            words = [text]
            if directive.multiple:
                words = text.split(" ") if text else []
            try:
                value = directive.parse(words, before[directive.name])
            except ConfigError as error:
                self._values.update(before)
                raise SetError(_refusal(name.lower(), str(error))) from None
            self._values[directive.name] = value
            if value != before[directive.name]:
                changed.append(directive.name)
        told: list[Listener] = []
        for name in changed:
            for listener in self._listeners.get(name, ()):
                if listener in told:
                    continue
                told.append(listener)
                try:
                    listener()
                except ConfigError as error:
                    self.warn(
                        "Failed applying new configuration. Possibly related to new "
                        f"{name} setting. Restoring previous settings."
                    )
                    self._values.update(before)
                    self._tell_again(told)
                    raise SetError(_refusal(name, str(error))) from None
        self.loaded.update(directive.name for directive in directives)

    def _admit(
        self, pairs: Sequence[tuple[str, str]], local: bool, loading: bool
    ) -> list[Directive]:
        directives: list[Directive] = []
        refusal = ""
        too_early = False
        for name, _ in pairs:
            directive = self.find(name)
            if directive is None:
                if not refusal and not too_early:
                    shown = name.partition("\0")[0]
                    refusal = f"Unknown option or number of arguments for CONFIG SET - '{shown}'"
                break
            if refusal or too_early:
                continue
            if not directive.mutable:
                refusal = _refusal(name, "can't set immutable config")
            elif directive.protected and not self._allows_protected(local):
                refusal = _refusal(name, "can't set protected config")
            elif loading and directive.deny_loading:
                too_early = True
            elif directive in directives:
                refusal = _refusal(name, "duplicate parameter")
            directives.append(directive)
        if too_early:
            raise LoadingError
        if refusal:
            raise SetError(refusal)
        return directives

    def _allows_protected(self, local: bool) -> bool:
        allowed = self.text("enable-protected-configs")
        return allowed == "yes" or (allowed == "local" and local)

    def _tell_again(self, listeners: list[Listener]) -> None:
        for listener in listeners:
            try:
                listener()
            except ConfigError as error:
                self.warn(f"Failed applying restored failed CONFIG SET command: {error}")

    def adopt(self, name: str, value: Value) -> None:
        """Hold a value that the node itself arrived at (a role change, a lowered `maxclients`).

        No bounds are checked and no listener is told.
        """
        directive = self._directives[name]
        self._values[directive.name] = value

    # Reading files and the command line

    def read_file(self, path: str) -> None:
        """Read a config file. Raises UnreadableFile, or ConfigFileError for a bad line."""
        self._read_one(path, 0)

    def read_text(self, content: bytes, origin: str) -> None:
        """Read config lines from elsewhere, such as standard input. Raises ConfigFileError."""
        self._read_lines(content, origin, 0)

    def read_options(self, arguments: Sequence[bytes]) -> None:
        """Read command line options (`--port 6380 …`). Raises ConfigFileError."""
        if arguments:
            self._read_lines(options_text(list(arguments)), "command line", 0)

    def check(self) -> None:
        """What can only be judged when all lines are read. Raises ConfigFileError."""
        if self.find("cluster-enabled") is not None and self.find("replicaof") is not None:
            if self.boolean("cluster-enabled") and self.values("replicaof"):
                raise ConfigFileError("replicaof directive not allowed in cluster mode")

    def statements(self, name: str) -> list[Statement]:
        """The lines with that name which are no directives, in order; for who carries them out."""
        return [statement for statement in self._statements if statement.name == name]

    def _read_one(self, path: str, depth: int) -> None:
        full = os.path.join(self.text("dir"), path)  # noqa: PTH118 a trailing slash has to stay
        try:
            content = Path(full).read_bytes()
        except OSError as error:
            raise UnreadableFile(path, error) from None
        self._read_lines(content, full, depth)

    def _read_lines(self, content: bytes, origin: str, depth: int) -> None:
        for index, raw in enumerate(content.split(b"\n")):
            stripped = raw.strip(b" \t\r\n")
            if not stripped or stripped.startswith(b"#"):
                continue
            line = decode(stripped)
            octets = split_words(stripped)
            if octets is None:
                raise ConfigFileError(
                    "Unbalanced quotes in configuration line", origin, index + 1, line
                )
            if not octets:
                continue
            words = [decode(word) for word in octets]
            statement = Statement(words[0].lower(), tuple(words[1:]), origin, index + 1, line)
            try:
                self._read_line(statement, depth)
            except ConfigError as error:
                raise statement.refuse(str(error)) from None

    def _read_line(self, statement: Statement, depth: int) -> None:
        name, words = statement.name, statement.words
        directive = self._directives.get(name)
        if directive is not None:
            if not directive.multiple and len(words) != 1:
                raise ConfigError("wrong number of arguments")
            current = self.value(directive.name)
            first = directive.name not in self.loaded
            if directive.multiple and len(words) == 1 and words[0]:
                # All arguments may stand in one pair of quotes.
                words = tuple(map(decode, split_words(encode(words[0])) or ()))
            self._values[directive.name] = directive.accumulate(words, current, first)
            self.loaded.add(directive.name)
        elif name in DEPRECATED and len(words) == 1:
            return
        elif name == "include" and len(words) == 1:
            if depth == MAX_INCLUDE_DEPTH:
                raise ConfigError("include files are nested too deeply")
            for path in self._find_files(words[0]):
                self._read_one(path, depth + 1)
        elif (
            (name == "rename-command" and len(words) == 2)
            or (name in ("user", "loadmodule") and words)
            or name == "sentinel"
        ):
            self.examine(statement)
            self._statements.append(statement)
        elif "." in name:
            if len(words) != 1:
                raise ConfigError("Module config specified without value")
            raise ConfigError("Module Configuration detected without loadmodule directive")
        else:
            raise ConfigError("Bad directive or wrong number of arguments")

    def _find_files(self, pattern: str) -> list[str]:
        """The files that an include names: a pattern may match none, a plain path must exist."""
        if not any(char in pattern for char in "*?["):
            return [pattern]
        return expand(self.text("dir"), pattern)


def expand(directory: str, pattern: str) -> list[str]:
    """Paths that match a shell pattern, sorted by bytes; `*` does not match a leading dot."""
    base = glob.escape(directory)
    found = glob.glob(os.path.join(base, pattern))  # noqa: PTH118, PTH207 patterns are no paths
    return sorted(found, key=os.fsencode)


def _refusal(name: str, reason: str) -> str:
    return f"CONFIG SET failed (possibly related to argument '{name}') - {reason}"


def _ignore(message: str) -> None:
    return None


def _admit(statement: Statement) -> None:
    return None
