"""The command line, config files, the first log lines and the manners of the process."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from tests.conftest import StartServer
from tests.servers import Server, environment, free_port, node_command
from tests.wire import OK, PONG, Client, Error

LIMIT = 30.0
DATE = r"\d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d\.\d{3}"


def run(
    *arguments: str, folder: Path, text: str = "", variables: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `sentrio node` until it ends by itself."""
    return subprocess.run(
        [*node_command(), *arguments],
        input=text,
        capture_output=True,
        text=True,
        cwd=folder,
        env={**environment(), **(variables or {})},
        timeout=LIMIT,
        check=False,
    )


@contextmanager
def running(
    *arguments: str, folder: Path, text: str = "", variables: dict[str, str] | None = None
) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A `sentrio node` and the file with its output; ended by SIGTERM."""
    output = folder / "output"
    with output.open("w") as log:
        process = subprocess.Popen(
            [*node_command(), *arguments],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=folder,
            env={**environment(), **(variables or {})},
        )
    try:
        if process.stdin is not None:
            process.stdin.write(text)
            process.stdin.close()
        yield process, output
    finally:
        process.terminate()
        try:
            process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(path: Path, pattern: str) -> str:
    """The text of a file once the pattern is found in it."""
    deadline = time.monotonic() + LIMIT
    text = ""
    while time.monotonic() < deadline:
        text = path.read_text(errors="replace") if path.exists() else ""
        if re.search(pattern, text):
            return text
        time.sleep(0.01)
    raise AssertionError(f"{pattern!r} did not appear in {path}:\n{text}")


def ready(output: Path) -> str:
    """The log once clients can connect."""
    return wait_for(output, "Ready to accept connections")


def directives(port: int) -> Sequence[str]:
    """What every started node is given."""
    return ("--port", str(port), "--bind", "127.0.0.1")


@pytest.mark.parametrize(
    ("content", "number", "line", "reason"),
    [
        (
            "port 0\n\n# fine\nfoo bar\n",
            4,
            "foo bar",
            "Bad directive or wrong number of arguments",
        ),
        ("maxmemory lots", 1, "maxmemory lots", "argument must be a memory value"),
        (
            "rename-command nothing x",
            1,
            "rename-command nothing x",
            "No such command in rename-command",
        ),
    ],
)
def test_a_bad_line_stops_the_start(
    tmp_path: Path, content: str, number: int, line: str, reason: str
) -> None:
    path = tmp_path / "bad.conf"
    path.write_text(content)
    result = run("bad.conf", "--bind", "127.0.0.1", folder=tmp_path)
    assert result.returncode == 1
    assert re.fullmatch(
        r"\n\*\*\* FATAL CONFIG FILE ERROR \(Sentrio \S+\) \*\*\*\n"
        rf"Reading the configuration file, at line {number}\n"
        rf">>> '{re.escape(line)}'\n"
        rf"In {re.escape(str(path))}\n"
        rf"{re.escape(reason)}\n",
        result.stderr,
    )


def test_a_missing_file_stops_the_start(tmp_path: Path) -> None:
    result = run("missing.conf", folder=tmp_path)
    assert result.returncode == 1
    path = tmp_path / "missing.conf"
    assert re.fullmatch(
        rf"\d+:C {DATE} # Fatal error, can't open config file '{re.escape(str(path))}': "
        r"No such file or directory\n",
        result.stdout,
    )


def test_files_input_and_options_come_together(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "1.conf").write_text("hz 11\ntimeout 11\nmaxmemory 11mb\n")
    (tmp_path / "conf.d" / "2.conf").write_text("timeout 22\n")
    (tmp_path / "main.conf").write_text(
        "port 1\ninclude conf.d/*.conf\ninclude none.d/*.conf\nslowlog-max-len 5\n"
        "requirepass 'a \"word\"'\n"
    )
    arguments = ("main.conf", *directives(port), "--hz", "33", "-")
    with running(*arguments, folder=tmp_path, text="hz 12\nmaxmemory 12mb\n") as (_, output):
        assert "Reading config from stdin" in ready(output)
        with Client(("127.0.0.1", port)) as client:
            assert client("AUTH", 'a "word"') == OK
            values = {
                name: client("CONFIG", "GET", name)
                for name in ("hz", "timeout", "maxmemory", "slowlog-max-len")
            }
    assert values == {
        "hz": [b"hz", b"33"],
        "timeout": [b"timeout", b"22"],
        "maxmemory": [b"maxmemory", b"%d" % (12 * 1024 * 1024)],
        "slowlog-max-len": [b"slowlog-max-len", b"5"],
    }


def test_first_lines_of_the_log(tmp_path: Path) -> None:
    port = free_port()
    arguments = (*directives(port), "--always-show-logo", "yes", "--crash-memcheck-enabled", "no")
    with running(*arguments, folder=tmp_path) as (process, output):
        text = ready(output)
        pid = process.pid
    order = [
        rf"^{pid}:C {DATE} \* oO0OoO0OoO0Oo Sentrio is starting oO0OoO0OoO0Oo$",
        rf"^{pid}:C {DATE} \* Sentrio version=\S+, .*, pid={pid}, just started$",
        rf"^{pid}:C {DATE} \* Configuration loaded$",
        rf"^{pid}:C {DATE} # The directive 'crash-memcheck-enabled' is accepted, but has no effect",
        rf"Port: {port}$",
        rf"PID: {pid}$",
        rf"^{pid}:M {DATE} \* Server initialized$",
        rf"^{pid}:M {DATE} \* Ready to accept connections tcp$",
    ]
    assert re.search(r"(?s:.*)".join(order), text, re.MULTILINE), text


def test_no_arguments_are_warned_about(tmp_path: Path) -> None:
    """Only the first lines matter: the default port may be taken."""
    with running(folder=tmp_path) as (_, output):
        wait_for(output, "# Warning: no config file specified, using the default config. In order")


def test_a_taken_port_ends_the_start(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port: int = taken.getsockname()[1]
        result = run(*directives(port), "--pidfile", "pid", folder=tmp_path)
    assert result.returncode == 1
    assert f"# Failed listening on port {port} (tcp), aborting." in result.stdout
    assert not (tmp_path / "pid").exists()


def test_nowhere_to_listen(tmp_path: Path) -> None:
    result = run("--port", "0", folder=tmp_path)
    assert result.returncode == 1
    assert "# Configured to not listen anywhere, exiting." in result.stdout


def test_unix_socket_pid_file_and_clean_end(tmp_path: Path) -> None:
    path, pid_file = tmp_path / "socket", tmp_path / "pid"
    arguments = ("--port", "0", "--unixsocket", str(path), "--unixsocketperm", "700")
    with running(*arguments, "--pidfile", str(pid_file), folder=tmp_path) as (process, output):
        text = ready(output)
        assert "Ready to accept connections unix" in text
        assert "connections tcp" not in text
        assert path.stat().st_mode & 0o777 == 0o700
        assert pid_file.read_text() == f"{process.pid}\n"
        with Client(str(path)) as client:
            assert client("PING") == PONG
        process.terminate()
        assert process.wait(LIMIT) == 0
        assert not pid_file.exists()
        assert not path.exists()
        text = output.read_text()
        assert "# Received SIGTERM scheduling shutdown..." in text
        ends = [line.split(" ", 5)[-1] for line in text.splitlines()[-3:]]
        assert ends == [
            "* Removing the pid file.",
            "* Removing the unix socket file.",
            "# Sentrio is now ready to exit, bye bye...",
        ]


def test_daemon(tmp_path: Path) -> None:
    port = free_port()
    result = run(
        *directives(port),
        *("--daemonize", "yes", "--pidfile", "pid", "--logfile", "log"),
        folder=tmp_path,
    )
    assert result.returncode == 0
    assert result.stdout == result.stderr == ""
    text = ready(tmp_path / "log")
    pid = int((tmp_path / "pid").read_text())
    try:
        assert f"{pid}:M " in text
        assert os.getsid(pid) != os.getsid(0)
        with Client(("127.0.0.1", port)) as client:
            assert client("PING") == PONG
    finally:
        os.kill(pid, signal.SIGTERM)
    wait_for(tmp_path / "log", "Removing the pid file")


def test_a_daemon_that_cannot_start_says_so(tmp_path: Path) -> None:
    result = run("--daemonize", "yes", "--rename-command", "nothing", "x", folder=tmp_path)
    assert result.returncode == 1
    assert result.stderr.endswith("No such command in rename-command\n")


def test_systemd_is_told_when_clients_can_connect(tmp_path: Path) -> None:
    port = free_port()
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(address)
        notify.settimeout(LIMIT)
        arguments = (*directives(port), "--supervised", "systemd", "--daemonize", "yes")
        variables = {"NOTIFY_SOCKET": address}
        with running(*arguments, folder=tmp_path, variables=variables) as (process, _):
            assert b"STATUS=" in notify.recv(200)
            assert b"READY=1" in notify.recv(200)
            with Client(("127.0.0.1", port)) as client:
                assert client("PING") == PONG
            assert process.poll() is None
            process.terminate()
            assert notify.recv(200) == b"STOPPING=1\n"


def test_renamed_commands(start_node: StartServer) -> None:
    node = start_node("--rename-command", "PING", "pong", "--rename-command", "ECHO", "")
    with node.connect() as client:
        assert client("PONG") == PONG
        for gone in ("PING", "ECHO"):
            reply = client(gone, "x")
            assert isinstance(reply, Error)
            assert reply.text.startswith(b"ERR unknown command")


def test_changes_while_running(start_node: StartServer) -> None:
    node = start_node("--enable-protected-configs", "yes")
    (node.folder / "sub").mkdir()
    other = free_port()
    with node.connect() as client:
        assert client("CONFIG", "SET", "loglevel", "debug", "dir", "sub") == OK
        folder = str(node.folder.resolve() / "sub").encode()
        assert client("CONFIG", "GET", "dir") == [b"dir", folder]
        assert Path(f"/proc/{node.pid}/cwd").resolve() == Path(os.fsdecode(folder))
        reply = client("CONFIG", "SET", "hz", "20", "maxclients", "4000000000")
        assert isinstance(reply, Error)
        assert b"'maxclients') - The operating system is not able to handle" in reply.text
        assert client("CONFIG", "GET", "hz", "maxclients") == [
            *(b"hz", b"10"),
            *(b"maxclients", b"10000"),
        ]
        assert client("CONFIG", "SET", "port", other) == OK
        with Client(("127.0.0.1", other)) as second:
            assert second("PING") == PONG
        with pytest.raises(ConnectionRefusedError):
            node.connect()
        assert client("PING") == PONG


def test_rewriting_the_file(tmp_path: Path) -> None:
    path = tmp_path / "node.conf"
    path.write_text("# kept\nhz 20\n")
    with Server([*node_command(), str(path)]) as node, node.connect() as client:
        assert client("CONFIG", "SET", "hz", "30", "maxmemory", "1gb") == OK
        assert client("CONFIG", "REWRITE") == OK
        lines = path.read_text().splitlines()
        assert lines[:3] == ["# kept", "hz 30", ""]
        assert "maxmemory 1gb" in lines
        assert f"port {node.port}" in lines
        assert "CONFIG REWRITE executed with success." in node.log
        path.unlink()
        (path.parent / "node.conf").mkdir()
        reply = client("CONFIG", "REWRITE")
        assert reply == Error(b"ERR Rewriting config file: Is a directory")
    with Server([*node_command(), "-"]) as node, node.connect() as client:
        assert client("CONFIG", "REWRITE") == Error(
            b"ERR The server is running without a config file"
        )


def test_bind_and_port_change_while_clients_stay(tmp_path: Path) -> None:
    port, other = free_port(), free_port()
    with running(*directives(port), folder=tmp_path) as (_, output):
        ready(output)
        client = redis.Redis(port=port, socket_timeout=20, decode_responses=True)
        # The new addresses share one with the old.
        assert client.config_set("bind", "127.0.0.1 127.0.0.2") is True
        assert redis.Redis("127.0.0.2", port, socket_timeout=20).ping() is True
        assert client.config_set("port", str(other)) is True
        assert redis.Redis(port=other, socket_timeout=20).ping() is True
        with pytest.raises(redis.ConnectionError):
            redis.Redis("127.0.0.2", port, socket_timeout=20).ping()
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            with pytest.raises(redis.ResponseError, match="Unable to listen on this port"):
                client.config_set("port", str(taken.getsockname()[1]))
        with pytest.raises(redis.ResponseError, match="Failed to bind to specified addresses"):
            client.config_set("bind", "192.0.2.1")
        # What was is again.
        assert client.config_get("port", "bind") == {
            "port": str(other),
            "bind": "127.0.0.1 127.0.0.2",
        }
        assert redis.Redis("127.0.0.2", other, socket_timeout=20).ping() is True
