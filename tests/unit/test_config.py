"""Directives, files, CONFIG SET that is all or nothing, listeners."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from node.config import (
    Config,
    ConfigError,
    ConfigFileError,
    LoadingError,
    SetError,
    UnreadableFile,
    dormant,
    make_config,
)
from node.config import directives as own
from node.config.reference import write_reference
from node.values import pattern
from node.values.collection import Limits
from tests.installation import ROOT


def match(glob: bytes, name: bytes) -> bool:
    return pattern.matches(glob, name, nocase=True)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return make_config(str(tmp_path))


def read(config: Config, *lines: str) -> None:
    config.read_text("\n".join(lines).encode(), "test")


def test_every_directive_is_complete() -> None:
    names: set[str] = set()
    for _, section in own.SECTIONS + dormant.SECTIONS:
        for directive in section:
            assert directive.name == directive.name.lower()
            assert directive.help.endswith((".", ";")), directive.name
            assert not names & {directive.name, *directive.aliases}
            names |= {directive.name, *directive.aliases}
    for _, section in own.SECTIONS:
        assert all(directive.meaning for directive in section)
    for _, section in dormant.SECTIONS:
        assert not any(directive.meaning for directive in section)


def test_defaults_can_be_read_back(config: Config) -> None:
    """What CONFIG REWRITE would write of a default, and CONFIG GET reports, means the default."""
    again = make_config(config.text("dir"))
    for directive in config.directives():
        value = config.value(directive.name)
        for line, _ in directive.lines(value):
            again.read_text(line, "default")
        assert again.value(directive.name) == value, directive.name
        if directive.mutable and not directive.protected:
            again.set([(directive.name, directive.write(value))])
            assert again.value(directive.name) == value, directive.name


def test_reference_is_fresh() -> None:
    assert (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8") == write_reference(), (
        "run python -m node.config.reference"
    )


def test_thresholds_of_encodings_are_those_of_values(config: Config) -> None:
    limits = Limits()
    names = [name for name in dir(limits) if not name.startswith("_")]
    assert len(names) == 9
    assert {name: config.integer(name.replace("_", "-")) for name in names} == {
        name: getattr(limits, name) for name in names
    }


def test_reading_a_file(config: Config, tmp_path: Path) -> None:
    (tmp_path / "node.conf").write_bytes(
        b"# a comment\r\n\n  PORT 7000\r\nbind 127.0.0.1 -::1\n"
        b'requirepass "a \\"b\\" \\xff"\nmaxmemory 10mb\nlua-replicate-commands yes\n'
        b"hash-max-ziplist-entries 7\nunixsocketperm 700"
    )
    config.read_file("node.conf")
    assert config.integer("port") == 7000
    assert config.values("bind") == ("127.0.0.1", "-::1")
    assert config.octets("requirepass") == b'a "b" \xff'
    assert config.integer("maxmemory") == 10 * 1024 * 1024
    assert config.integer("hash-max-listpack-entries") == 7
    assert config.integer("unixsocketperm") == 0o700


def test_later_lines_win(config: Config) -> None:
    read(config, "hz 20", "port 1", "hz 30")
    config.read_options([b"--port", b"2"])
    assert config.integer("hz") == 30
    assert config.integer("port") == 2


def test_hz_is_moved_into_its_range(config: Config) -> None:
    read(config, "hz 0")
    assert config.integer("hz") == 1
    config.set([("hz", "100000")])
    assert config.integer("hz") == 500


def test_save_lines_add_up(config: Config) -> None:
    assert config.save_points() == [(3600, 1), (300, 100), (60, 10000)]
    read(config, "save 10 1", "save 20 2 30 3")
    assert config.save_points() == [(10, 1), (20, 2), (30, 3)]
    read(config, 'save ""')
    assert config.save_points() == []
    read(config, "save 5 5")
    assert config.save_points() == [(5, 5)]
    config.set([("save", "1 2 3 4")])
    assert config.save_points() == [(1, 2), (3, 4)]
    config.set([("save", "")])
    assert config.save_points() == []


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ('save "3600 1 60 5"', b"3600 1 60 5"),
        ('save " 3600\\t1 "', b"3600 1"),
        ('save " "', b""),
        ('oom-score-adj-values "1 2 3"', b"1 2 3"),
        ('shutdown-on-sigint "save now"', b"save now"),
        ('latency-tracking-info-percentiles "50 99.90"', b"50 99.9"),
        ('bind "127.0.0.1 ::1"', b"127.0.0.1 ::1"),
    ],
)
def test_all_arguments_in_one_pair_of_quotes(config: Config, line: str, value: bytes) -> None:
    read(config, line)
    assert config.written(line.split(maxsplit=1)[0]) == value


def test_two_options_of_one_word_each(config: Config) -> None:
    config.read_options([b"--save", b"3600 1", b"--save", b"60 2"])
    assert config.save_points() == [(3600, 1), (60, 2)]


def test_output_buffer_limits_are_set_by_class(config: Config) -> None:
    read(config, "client-output-buffer-limit replica 1mb 1kb 5")
    config.set([("client-output-buffer-limit", "pubsub 3 2 1 normal 9 8 7")])
    assert config.output_buffer_limits() == {
        "normal": (9, 8, 7),
        "slave": (1024 * 1024, 1024, 5),
        "pubsub": (3, 2, 1),
    }


def test_event_classes_are_ordered(config: Config) -> None:
    config.set([("notify-keyspace-events", "lgKEm")])
    assert config.text("notify-keyspace-events") == "glKEm"
    config.set([("notify-keyspace-events", "g$lshzxetdnE")])
    assert config.text("notify-keyspace-events") == "AEn"


def test_directory_is_where_it_is_read(config: Config, tmp_path: Path) -> None:
    (tmp_path / "sub" / "more").mkdir(parents=True)
    (tmp_path / "sub" / "more" / "hz.conf").write_text("hz 77\ndir ..\n")
    read(config, "dir sub", "include more/hz.conf")
    assert config.integer("hz") == 77
    assert config.text("dir") == str(tmp_path)
    assert config.path("dbfilename") == str(tmp_path / "dump.rdb")


def test_include_patterns(config: Config, tmp_path: Path) -> None:
    folder = tmp_path / "conf[1].d"
    folder.mkdir()
    (folder / "20.conf").write_text("hz 20\n")
    (folder / "10.conf").write_text("hz 10\ntimeout 5\n")
    (folder / ".hidden.conf").write_text("hz 90\n")
    read(config, "include 'conf[[]1].d/*.conf'", "include none/*.conf")
    assert config.integer("hz") == 20
    assert config.integer("timeout") == 5
    config = make_config(str(folder))
    read(config, "include ?0.conf")
    assert config.integer("hz") == 20


def test_include_cycle(config: Config, tmp_path: Path) -> None:
    (tmp_path / "self.conf").write_text("include self.conf\n")
    with pytest.raises(ConfigFileError, match="nested too deeply"):
        config.read_file("self.conf")


def test_bad_line_is_named_with_its_file(config: Config, tmp_path: Path) -> None:
    (tmp_path / "outer.conf").write_text("port 1\ninclude inner.conf\n")
    (tmp_path / "inner.conf").write_text("\n# nothing\n   maxmemory lots  \n")
    with pytest.raises(ConfigFileError) as caught:
        config.read_file("outer.conf")
    error = caught.value
    assert (error.number, error.line) == (3, "maxmemory lots")
    assert error.origin == str(tmp_path / "inner.conf")
    assert str(error).split("\n")[2:] == [
        "Reading the configuration file, at line 3",
        ">>> 'maxmemory lots'",
        f"In {tmp_path / 'inner.conf'}",
        "argument must be a memory value",
    ]
    assert str(error).startswith("\n*** FATAL CONFIG FILE ERROR (Sentrio ")


def test_missing_file(config: Config) -> None:
    with pytest.raises(UnreadableFile) as caught:
        read(config, "include missing.conf")
    assert caught.value.message == (
        "Fatal error, can't open config file 'missing.conf': No such file or directory"
    )


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("foo bar", "Bad directive or wrong number of arguments"),
        ("port", "wrong number of arguments"),
        ("port 1 2", "wrong number of arguments"),
        ("port abc", "argument couldn't be parsed into an integer"),
        ("port 65536", "argument must be between 0 and 65535 inclusive"),
        ("unixsocketperm 8", "argument couldn't be parsed as an octal number"),
        ("unixsocketperm 1000", "argument must be between 0 and 777 inclusive"),
        ("daemonize maybe", "argument must be 'yes' or 'no'"),
        ('dir "', "Unbalanced quotes in configuration line"),
        ("dir missing", "No such file or directory"),
        ("include", "Bad directive or wrong number of arguments"),
        ("rename-command get", "Bad directive or wrong number of arguments"),
        ("replicaof a", "wrong number of arguments"),
        ("replicaof a 65536", "Invalid master port"),
        ("save 1", "Invalid save parameters"),
        ("save 0 1", "Invalid save parameters"),
        ("module.thing", "Module config specified without value"),
        ("dbfilename a/b", "dbfilename can't be a path, just a filename"),
        ("shutdown-on-sigint", ("argument(s) must be one of the following: default, save, nosave, "
         "now, force")),
    ],
)  # fmt: skip
def test_bad_lines(config: Config, line: str, reason: str) -> None:
    with pytest.raises(ConfigFileError) as caught:
        read(config, line)
    assert caught.value.reason == reason


def test_statements_are_kept_with_their_place(config: Config) -> None:
    read(config, "rename-command GET take", "hz 1", "RENAME-COMMAND set ''")
    get, put = config.statements("rename-command")
    assert (get.words, get.number) == (("GET", "take"), 1)
    assert put.words == ("set", "")
    assert put.refuse("no").line == "RENAME-COMMAND set ''"


def test_cluster_nodes_have_no_master(config: Config) -> None:
    read(config, "cluster-enabled yes", "replicaof 127.0.0.1 6379")
    with pytest.raises(ConfigFileError, match="not allowed in cluster mode"):
        config.check()


def test_idle_directives_are_told(config: Config) -> None:
    read(config, "io-threads 2", "port 1", "latency-tracking yes")
    assert config.idle() == ["io-threads"]


def test_get_by_name_alias_and_pattern(config: Config) -> None:
    assert config.get([b"PORT", b"slave-priority"], match) == {
        b"PORT": b"6379",
        b"slave-priority": b"100",
    }
    assert config.get([b"*-PRIORITY", b"replica-priority"], match) == {
        b"replica-priority": b"100",
        b"slave-priority": b"100",
    }
    assert config.get([b"nothing", b"nothing*"], match) == {}
    assert b"key-load-delay" not in config.get([b"*"], match)
    assert config.get([b"key-load-delay"], match) == {b"key-load-delay": b"0"}
    assert config.written("maxmemory") == b"0"


def test_percentages(config: Config) -> None:
    config.set([("maxmemory-clients", "5%")])
    assert config.integer("maxmemory-clients") == -5
    assert config.written("maxmemory-clients") == b"5%"


@pytest.mark.parametrize(
    ("pairs", "text"),
    [
        (
            [("hz", "5"), ("nope", "1")],
            "Unknown option or number of arguments for CONFIG SET - 'nope'",
        ),
        (
            [("hz", "5"), ("DATABASES", "1")],
            (
                "CONFIG SET failed (possibly related to argument 'DATABASES') - "
                "can't set immutable config"
            ),
        ),
        (
            [("hz", "5"), ("dir", "/")],
            "CONFIG SET failed (possibly related to argument 'dir') - can't set protected config",
        ),
        (
            [("hz", "5"), ("HZ", "6")],
            "CONFIG SET failed (possibly related to argument 'HZ') - duplicate parameter",
        ),
        (
            [("replica-priority", "5"), ("slave-priority", "6")],
            (
                "CONFIG SET failed (possibly related to argument 'slave-priority') - "
                "duplicate parameter"
            ),
        ),
        (
            [("hz", "5"), ("MAXMEMORY", "x")],
            (
                "CONFIG SET failed (possibly related to argument 'maxmemory') - "
                "argument must be a memory value"
            ),
        ),
        (
            [("hz", "5"), ("databases", "1"), ("nope", "1")],
            (
                "CONFIG SET failed (possibly related to argument 'databases') - "
                "can't set immutable config"
            ),
        ),
    ],
)
def test_refused_sets_change_nothing(
    config: Config, pairs: list[tuple[str, str]], text: str
) -> None:
    told: list[str] = []
    config.on_change("hz", lambda: told.append("hz"))
    with pytest.raises(SetError) as caught:
        config.set(pairs)
    assert str(caught.value) == text
    assert config.integer("hz") == 10
    assert told == []


def test_loading_refuses_some(config: Config) -> None:
    config.set([("hz", "11")], loading=True)
    with pytest.raises(LoadingError):
        config.set([("hz", "12"), ("appendonly", "yes")], loading=True)
    assert config.integer("hz") == 11


@pytest.mark.parametrize(
    ("permission", "local", "allowed"),
    [
        ("no", True, False),
        ("yes", False, True),
        ("local", True, True),
        ("local", False, False),
    ],
)
def test_protected_directives(
    config: Config, tmp_path: Path, permission: str, local: bool, allowed: bool
) -> None:
    (tmp_path / "sub").mkdir()
    read(config, f"enable-protected-configs {permission}")
    pairs = [("dir", "sub")]
    if allowed:
        config.set(pairs, local=local)
        assert config.text("dir") == str(tmp_path / "sub")
    else:
        with pytest.raises(SetError):
            config.set(pairs, local=local)


def test_listeners_are_told_once_and_only_of_changes(config: Config) -> None:
    told: list[tuple[int, int]] = []
    config.on_change(
        ("hz", "timeout"), lambda: told.append((config.integer("hz"), config.integer("timeout")))
    )
    config.set([("timeout", "5"), ("hz", "20")])
    config.set([("timeout", "5")])
    config.set([("maxmemory", "5")])
    assert told == [(20, 5)]


def test_a_listener_can_take_everything_back(config: Config) -> None:
    warnings: list[str] = []
    seen: list[int] = []
    config.warn = warnings.append

    def refuse() -> None:
        if config.integer("timeout") == 7:
            raise ConfigError("not seven")

    config.on_change("hz", lambda: seen.append(config.integer("hz")))
    config.on_change("timeout", refuse)
    with pytest.raises(SetError) as caught:
        config.set([("hz", "20"), ("timeout", "7"), ("maxmemory", "1mb")])
    assert str(caught.value) == (
        "CONFIG SET failed (possibly related to argument 'timeout') - not seven"
    )
    assert (config.integer("hz"), config.integer("timeout"), config.integer("maxmemory")) == (
        *(10, 0),
        0,
    )
    assert seen == [20, 10]
    assert warnings == [
        (
            "Failed applying new configuration. Possibly related to new timeout setting. "
            "Restoring previous settings."
        )
    ]


@pytest.mark.parametrize("accessor", ["integer", "boolean", "text", "values"])
def test_accessors_insist_on_their_type(config: Config, accessor: str) -> None:
    names = {"integer": "bind", "boolean": "port", "text": "port", "values": "port"}
    method: Callable[[str], object] = getattr(config, accessor)
    with pytest.raises(AssertionError):
        method(names[accessor])
