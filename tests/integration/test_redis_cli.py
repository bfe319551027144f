"""redis-cli, in the ways people and scripts use it, prints what it prints with the real server."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable

import pytest

from tests.conftest import require_program
from tests.servers import Server
from tests.wire import encode

Run = Callable[..., str]

TOUR = """\
SET greeting "hello world"
GET greeting
APPEND greeting !
STRLEN greeting
GETRANGE greeting 0 4
SET binary "\\x00\\xff\\r\\n"
GET binary
GET missing
INCR counter
INCRBY counter 41
INCRBYFLOAT price 10.5
EXPIRE greeting 1000
PERSIST greeting
TTL greeting
RPUSH list a b c "" "d e"
LRANGE list 0 -1
LPOP list 2
LPOS list c
HSET hash name Ada born 1815
HGET hash name
HMGET hash born missing
HINCRBY hash born 1
ZADD board 1 one 2.5 two 3e10 three
ZRANGE board 0 -1 WITHSCORES
ZSCORE board two
ZRANK board three
ZRANGE board (1 +inf BYSCORE LIMIT 0 1
SADD set member
SMEMBERS set
SISMEMBER set nobody
TYPE board
OBJECT ENCODING counter
EXISTS greeting list nothing
RENAME list queue
MULTI
INCR counter
LPUSH queue first
EXEC
MULTI
NOSUCHCOMMAND
EXEC
INCR greeting
LPUSH greeting x
SET greeting
SELECT 1
DBSIZE
SELECT 0
DBSIZE
PING
ECHO "it's \\"quoted\\""
COPY queue copy
SORT copy ALPHA DESC
GETDEL counter
UNLINK queue copy
"""


@pytest.fixture(scope="module")
def program() -> str:
    """redis-cli itself."""
    return require_program("redis-cli")


def run(program: str, server: Server, *arguments: str, text: str | bytes | None = None) -> str:
    """What redis-cli prints; it must end with 0."""
    data = text.encode() if isinstance(text, str) else text
    done = subprocess.run(
        [program, "-p", str(server.port), *arguments],
        input=data,
        capture_output=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL if data is None else None,
    )
    printed = (done.stdout + done.stderr).decode(errors="backslashreplace")
    assert done.returncode == 0, printed
    return printed


@pytest.mark.parametrize("form", ["", "--raw", "--no-raw", "--csv", "--json", "-2", "-3"])
def test_script_prints_what_it_prints_with_redis(
    program: str, node: Server, oracle: Server, form: str
) -> None:
    arguments = form.split()
    ours = run(program, node, *arguments, text=TOUR)
    theirs = run(program, oracle, *arguments, text=TOUR)
    assert ours.splitlines() == theirs.splitlines()


def test_one_command_per_call(program: str, node: Server) -> None:
    assert run(program, node, "SET", "key", "value") == "OK\n"
    assert run(program, node, "GET", "key") == "value\n"
    assert run(program, node, "-x", "SET", "key", text="from standard input") == "OK\n"
    assert run(program, node, "GET", "key") == "from standard input\n"
    assert run(program, node, "-n", "2", "DBSIZE") == "0\n"
    assert run(program, node, "-r", "3", "INCR", "counter") == "1\n2\n3\n"
    assert "redis_version:7" in run(program, node, "INFO", "server")
    assert "unknown command 'NOSUCH'" in run(program, node, "NOSUCH")


def test_pipe(program: str, node: Server) -> None:
    requests = b"".join(encode([b"SET", b"key:%d" % n, b"value"]) for n in range(20_000))
    printed = run(program, node, "--pipe", text=requests)
    assert "errors: 0, replies: 20000" in printed
    assert run(program, node, "DBSIZE") == "20000\n"


def test_pipe_counts_errors(program: str, node: Server) -> None:
    data = encode([b"SET", b"s", b"x"]) + encode([b"INCR", b"s"]) + encode([b"GET", b"s"])
    done = subprocess.run(
        [program, "-p", str(node.port), "--pipe"],
        input=data,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert b"errors: 1, replies: 3" in done.stdout


def fill(server: Server) -> None:
    """A key of each type, and some more."""
    with server.connect() as client:
        for n in range(500):
            client("SET", f"user:{n:03d}", "x" * (n % 50))
        client("RPUSH", "big:list", *range(300))
        client("SADD", "big:set", *range(300))
        client("ZADD", "big:zset", *[word for n in range(300) for word in (n, f"m{n}")])
        client("HSET", "big:hash", *[word for n in range(300) for word in (f"f{n}", n)])


def test_scan(program: str, node: Server) -> None:
    fill(node)
    everything = run(program, node, "--scan").split()
    assert len(everything) == len(set(everything)) == 504
    found = run(program, node, "--scan", "--pattern", "user:00*").split()
    assert sorted(found) == [f"user:{n:03d}" for n in range(10)]


@pytest.mark.parametrize("option", ["--bigkeys", "--memkeys"])
def test_biggest_keys(program: str, node: Server, oracle: Server, option: str) -> None:
    fill(node)
    fill(oracle)
    ours, theirs = [
        # What is found on the way, and which of several equally big keys is named, depends on the
        # order of the scan; what a key weighs, on the server.
        sorted(
            re.sub(r"'\"user:\d+\"'|\d+ bytes|\(.*\)", "…", line)
            for line in run(program, server, option).partition("- summary -")[2].splitlines()
            if not (option == "--memkeys" and line.startswith("Biggest string"))
        )
        for server in (node, oracle)
    ]
    assert ours == theirs


def test_unix_socket(program: str, start_node: Callable[..., Server]) -> None:
    directory = start_node()
    path = directory.folder / "socket"
    server = start_node("--unixsocket", str(path), "--unixsocketperm", "700")
    done = subprocess.run(
        [program, "-s", str(path), "PING"], capture_output=True, timeout=30, check=False
    )
    assert done.stdout == b"PONG\n"
    assert path.stat().st_mode & 0o777 == 0o700
    assert server.process is not None


def test_password(program: str, start_node: Callable[..., Server]) -> None:
    server = start_node("--requirepass", "secret")
    assert "NOAUTH Authentication required." in run(program, server, "GET", "key")
    assert run(program, server, "-a", "secret", "--no-auth-warning", "PING") == "PONG\n"
    assert "WRONGPASS" in run(program, server, "-a", "wrong", "--no-auth-warning", "PING")


def test_subscriber(program: str, node: Server) -> None:
    process = subprocess.Popen(
        [program, "-p", str(node.port), "--csv", "SUBSCRIBE", "news"],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"Reading messages...")
        assert process.stdout.readline() == b'"subscribe","news",1\n'
        with node.connect() as client:
            assert client("PUBLISH", "news", "hello") == 1
        assert process.stdout.readline() == b'"message","news","hello"\n'
    finally:
        process.terminate()
        process.wait()
