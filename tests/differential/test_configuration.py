"""Directives as the real server has them: names, defaults, what is taken and what is refused."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.config import Config, ConfigFileError, make_config
from node.config.rewriting import rewrite_text
from sentrio import refuse_statement
from tests.conftest import StartServer, require_oracle
from tests.servers import Server
from tests.wire import OK, Client, Error, Map, Reply

# Directives that Redis 7.2 has and 7.0 has not.
NEW = {
    *("set-max-listpack-entries", "set-max-listpack-value"),
    *("cluster-announce-human-nodename", "locale-collate"),
    *("server-cpulist", "bio-cpulist", "aof-rewrite-cpulist", "bgsave-cpulist"),
}
# Directives that Redis does not have.
OWN = {"metrics-port", "metrics-bind"}
HIDDEN = (
    *("key-load-delay", "rdb-key-save-delay", "loading-process-events-interval-bytes"),
    *("lua-enable-deprecated-api", "use-exit-on-panic", "watchdog-period"),
)
# Setting them cuts the test's own connection, needs what is not there, or is not safe to try.
UNTRIED = {
    *("port", "bind", "requirepass", "timeout", "maxclients"),
    *("client-output-buffer-limit", "client-query-buffer-limit", "proto-max-bulk-len"),
    *("tls-port", "oom-score-adj", "activedefrag", "jemalloc-bg-thread", "appendonly"),
    *("tls-replication", "tls-cluster"),
}
PROBES = [
    *("", "0", "1", "-1", "2", "10", "99", "100", "101", "511", "1023", "65535", "65536"),
    *(
        "+1",
        " 1",
        "1 ",
        "007",
        "-0",
        "1.5",
        "1e3",
        "0x10",
        "1_0",
        "abc",
        "0x1p3",
        "inf",
        "nan",
        "yes",
        "no",
        "YES",
    ),
    *("1k", "1kb", "3M", "3mb", "1gb", "1.5gb", "1b", "kb", "10%", "-5%", "%"),
    *("2147483647", "2147483648", "-2147483648", "-2147483649", "4294967295", "4294967296"),
    *("9223372036854775807", "9223372036854775808", "-9223372036854775808"),
    *("1 2", "1 2 3", "1  2", "900 1 300 10", "-1 5", "1 -1", "0 1", "50 99.9", "101 2"),
    *("default", "save", "nosave force", "save nosave", "now now", "foo"),
    *("noeviction", "ALLKEYS-LRU", "debug", "Verbose", "everysec", "always", "ip", "hostname"),
    *(
        "AKE",
        "Kg$",
        "Q",
        "KEAm",
        "xt",
        "a/b",
        "a.rdb",
        "{title} {port}",
        "{title",
        "{x}",
        "}{",
        "{{x",
        "{{{port}",
    ),
    *("normal 1 2 3", "a-b.c", "a_b", "x" * 300, "1000 0 0", "-2001 0 0", "0 200 800"),
    *("ignore", "panic", "optional", "local", "clients", "swapdb", "resetchannels"),
]
# Redis lets a share wrap around at 2**63.
EXCEPTIONS = {("maxmemory-clients", "9223372036854775808")}


def pairs(reply: Reply) -> dict[str, str]:
    """A reply of CONFIG GET."""
    if isinstance(reply, Map):
        items = [item for pair in reply.pairs for item in pair]
    else:
        assert isinstance(reply, list)
        items = reply
    texts = [item.decode() for item in items if isinstance(item, bytes)]
    assert len(texts) == len(items)
    return dict(zip(texts[::2], texts[1::2], strict=True))


def test_names_and_defaults(start_oracle: StartServer) -> None:
    with start_oracle().connect() as client:
        theirs = pairs(client("CONFIG", "GET", "*"))
        hidden = {name: pairs(client("CONFIG", "GET", name)).get(name) for name in HIDDEN}
    config = make_config()
    ours = {
        name.decode(): value.decode()
        for name, value in config.get([b"*"], lambda pattern, name: True).items()
    }
    assert set(ours) - set(theirs) == NEW | OWN
    assert set(theirs) - set(ours) == set()
    given_at_start = {"port", "bind", "dir", "save"}
    for name, value in theirs.items():
        if name not in given_at_start:
            assert ours[name] == value, name
    for name, hidden_value in hidden.items():
        assert config.written(name).decode() == hidden_value, name


def test_both_protocols(node: Server, oracle: Server, protocol: int) -> None:
    with node.connect(protocol) as ours, oracle.connect(protocol) as theirs:
        for request in (
            ["GET", "HZ", "hz", "maxmemory-sam*", "nothing"],
            ["GET", "MAXMEMORY-POL*"],
            ["GET"],
            ["SET", "hz"],
            ["SET", "hz", "10", "hz"],
            ["SET", "hz", "10", "nope", "1"],
            ["REWRITE"],
            ["REWRITE", "now"],
            ["RESETSTAT"],
            ["NOPE"],
        ):
            mine, real = ours("CONFIG", *request), theirs("CONFIG", *request)
            if isinstance(mine, Error) or request[0] != "GET":
                assert mine == real, request
            else:
                assert type(mine) is type(real)
                assert pairs(mine) == pairs(real), request


@pytest.fixture(scope="module")
def names() -> list[str]:
    config = make_config()
    return [
        directive.name
        for directive in config.directives()
        if directive.name not in NEW | OWN | UNTRIED and not directive.hidden
    ]


def test_every_directive_takes_and_refuses_the_same(
    start_node: StartServer, start_oracle: StartServer, names: list[str]
) -> None:
    differences: list[str] = []
    with start_node().connect() as ours, start_oracle().connect() as theirs:
        for name in names:
            before = pairs(theirs("CONFIG", "GET", name))[name]
            for probe in PROBES:
                if (name, probe) in EXCEPTIONS:
                    continue
                mine, real = try_probe(ours, name, probe), try_probe(theirs, name, probe)
                if name == "loglevel" and isinstance(real[0], Error):
                    real = (Error(real[0].text + b", nothing"), real[1])
                if mine != real:
                    differences.append(f"{name} {probe[:40]!r}: {mine} instead of {real}")
                    assert ours("CONFIG", "SET", name, real[1]) == OK
            if name != "dir":
                restored = ours("CONFIG", "SET", name, before)
                assert restored == theirs("CONFIG", "SET", name, before)
    assert not differences, "\n".join(differences)


def try_probe(client: Client, name: str, probe: str) -> tuple[Reply, str]:
    """The reply to CONFIG SET and what CONFIG GET says afterwards."""
    reply = client("CONFIG", "SET", name, probe)
    after = "" if name == "dir" else pairs(client("CONFIG", "GET", name))[name]
    return reply, after


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("config")


LINES = st.one_of(
    st.sampled_from(
        [
            *(
                "",
                "# comment",
                "   \t",
                "'",
                '"a',
                "''",
                '"" x',
                "port 0",
                "PORT 1 ",
                "port",
                "hz 5",
            ),
            *(
                "hz 5",
                "bind",
                'bind ""',
                "bind a b",
                "save 1 2",
                "save 1",
                'save ""',
                "save 1 2 3 4",
            ),
            *("include missing*.conf", "include", "include a b", "loadmodule", "user"),
            *("rename-command get", "rename-command a b c", "replicaof a 1", "replicaof a"),
            *("slaveof no one", "slaveof a b", "maxmemory 1gb", "maxmemory 1x", "databases 0"),
            *("daemonize no", "daemonize ja", "unixsocketperm 755", "unixsocketperm 8"),
            *("client-output-buffer-limit normal 1 2 3 slave 1 2 3", "appendfilename a/b"),
            *("client-output-buffer-limit normal 1 2", "client-output-buffer-limit a 1 2 3"),
            *("list-max-ziplist-entries 1", "list-max-ziplist-entries", "a.b", "sentinel x"),
            *("lua-replicate-commands yes", "shutdown-on-sigint now save", "shutdown-on-sigint"),
            *("shutdown-on-sigterm save nosave", "oom-score-adj-values 1 2", "dir /nowhere"),
            *("notify-keyspace-events KEA", "notify-keyspace-events QQ", 'requirepass "a b"'),
        ]
    ),
    st.text(st.sampled_from("port hz'\"\\x0a1#\t"), max_size=12),
)


@settings(max_examples=40)
@given(lines=st.lists(LINES, max_size=6))
def test_bad_lines(folder: Path, lines: list[str]) -> None:
    """The first line that is refused, and why; a last line makes sure that there is one."""
    path = folder / "bad.conf"
    path.write_text("\n".join([*lines, "the-end"]))
    result = subprocess.run(
        [*require_oracle(), str(path)],
        capture_output=True,
        cwd=folder,
        text=True,
        check=False,
        timeout=20,
    )
    assert result.returncode == 1
    config = make_config(str(folder))
    config.examine = refuse_statement
    with pytest.raises(ConfigFileError) as caught:
        config.read_file(str(path))
    block = str(caught.value).replace(f"In {path}\n", "")
    assert neutral(block) == neutral(result.stderr.rstrip("\n"))


def neutral(block: str) -> str:
    """The error block without the name and version of the program."""
    return re.sub(r"ERROR \(\w+ [0-9.]+\)", "ERROR (X)", block)


REWRITES: list[tuple[str, list[str]]] = [
    ("", []),
    ("# only a comment\n", ["hz", "20"]),
    ("hz 20\nhz 30\n\n\n\n# x\ntimeout 5", ["hz", "10"]),
    ("save 10 1\nsave 20 2\n", ["save", "5 5"]),
    ("save 10 1\n", ["save", ""]),
    ("masterauth x\n", ["masterauth", ""]),
    ("# Generated by CONFIG REWRITE\nmaxmemory 100\n", ["maxmemory", "1048576"]),
    ("\nmaxmemory-clients 1%\n", ["maxmemory-clients", "5%"]),
    ("rename-command DEBUG ''\ninclude none*.conf\n", ["notify-keyspace-events", "KEA"]),
    ("  tcp-keepalive   7  \r\n", ["client-output-buffer-limit", "pubsub 1gb 5 6"]),
    ("slave-priority 5\n", ["replica-priority", "6", "shutdown-on-sigint", "save now"]),
    ("port 0\nbind 127.0.0.1\n", ["masteruser", 'a "b"\n\x01']),
    ("lua-time-limit 7\n", ["latency-tracking-info-percentiles", ""]),
    ("unixsocketperm 700\noom-score-adj-values 1 2 3\n", ["list-max-listpack-size", "7"]),
]


@pytest.mark.parametrize(("content", "changes"), REWRITES)
def test_rewriting(tmp_path: Path, content: str, changes: list[str]) -> None:
    path = tmp_path / "redis.conf"
    path.write_bytes(content.encode())
    with Server([*require_oracle(), str(path)], name="oracle") as oracle:
        with oracle.connect() as client:
            if changes:
                assert client("CONFIG", "SET", *changes) == OK
            assert client("CONFIG", "REWRITE") == OK
            real = path.read_text()
        config = config_like(oracle, content)
    if changes:
        config.set(list(zip(changes[::2], changes[1::2], strict=True)))
    ours = rewrite_text(config, content.encode()).decode()
    assert split(ours) == split(real)


def config_like(server: Server, content: str) -> Config:
    """A configuration that was read as the server has read its own."""
    config = make_config(str(server.folder))
    config.read_text(content.encode(), "file")
    config.read_options(
        [
            *(b"--port", str(server.port).encode(), b"--bind", b"127.0.0.1"),
            *(b"--dir", str(server.folder).encode(), b"--save", b""),
        ]
    )
    return config


def split(content: str) -> tuple[list[str], list[str]]:
    """Old lines in order and appended ones sorted, as Redis leaves their order to chance."""
    old, _, new = content.partition("# Generated by CONFIG REWRITE\n")
    return old.splitlines(), sorted(
        line for line in new.splitlines() if not line.startswith("user ")
    )
