"""What the command line says and refuses without starting a server."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import sentrio
from node.config import ConfigFileError, make_config
from node.log import Log


class StoppedClock:
    """Always the same moment."""

    def wall(self) -> float:
        return 0.0

    def monotonic_ns(self) -> int:
        return 0


def run(*arguments: str) -> Result:
    return CliRunner().invoke(sentrio.main, arguments)


def test_alone_it_shows_its_commands() -> None:
    result = run()
    assert result.exit_code == 0
    assert re.search(r"^  node +Run one data server", result.output, re.MULTILINE)


@pytest.mark.parametrize("option", ["-v", "--version"])
def test_version(option: str) -> None:
    result = run("node", option)
    assert result.exit_code == 0
    assert re.match(r"Sentrio server v=\S+ redis_version=7\.2\.4 ", result.stdout)


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help(option: str) -> None:
    result = run("node", option)
    assert result.exit_code == 0
    assert result.stdout.startswith("Usage: sentrio node [/path/to/sentrio.conf]")


@pytest.mark.parametrize("option", ["--test-memory", "--check-system"])
def test_what_is_refused(option: str) -> None:
    result = run("node", option, "100")
    assert result.exit_code == 1
    assert f"{option} is not available" in result.stderr


def test_bad_option() -> None:
    result = run("node", "--port", "70000")
    assert result.exit_code == 1
    assert ">>> 'port \"70000\"'\nIn command line\nargument must be between" in result.stderr


def test_log_file_that_cannot_be_opened(tmp_path: Path) -> None:
    result = run("node", "--dir", str(tmp_path), "--logfile", "missing/log")
    assert result.exit_code == 1
    assert "Can't open the log file: No such file or directory" in result.stderr


def read(path: Path, content: str) -> None:
    path.write_text(content)
    log = Log(StoppedClock(), path=str(path.with_suffix(".log")))
    sentrio.read_configuration(make_config(), [str(path)], log, sentrio.refuse_statement)


def test_a_sentinel_needs_a_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    result = run("sentinel")
    assert result.exit_code == 1
    assert "Sentinel needs config file on disk to save state. Exiting..." in capfd.readouterr().out
    result = run("sentinel", str(tmp_path / "missing"))
    assert result.exit_code == 1
    assert "Fatal error, can't open config file" in capfd.readouterr().out


def test_a_sentinels_bad_statement(tmp_path: Path) -> None:
    path = tmp_path / "sentinel.conf"
    path.write_text("port 0\nsentinel monitor m 127.0.0.1 1\n")
    result = run("sentinel", str(path))
    assert result.exit_code == 1
    assert f"at line 2\n>>> 'sentinel monitor m 127.0.0.1 1'\nIn {path}\n" in result.stderr
    assert "Unrecognized sentinel configuration statement." in result.stderr
    path.write_text("sentinel")
    result = run("sentinel", str(path), "--sentinel", "quorum", "m", "1")
    assert result.exit_code == 1
    assert '>>> \'sentinel "quorum" "m" "1"\'\nIn command line' in result.stderr


def test_a_sentinels_version_and_help() -> None:
    assert re.match(r"Sentrio sentinel v=\S+ redis_version=7\.2\.4 ", run("sentinel", "-v").stdout)
    assert run("sentinel", "--help").stdout.startswith("Usage: sentrio sentinel /path/to/")


def test_unrestricted_default_user_is_let_through(tmp_path: Path) -> None:
    read(tmp_path / "conf", "user default on nopass sanitize-payload ~* &* +@all")


SECRET = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"


def test_default_user_with_the_password_that_is_required(tmp_path: Path) -> None:
    user = f"user default on #{SECRET} ~* &* +@all"
    read(tmp_path / "conf", f"{user}\nrequirepass secret")
    for other in ("requirepass other", "hz 20"):
        with pytest.raises(ConfigFileError, match="is not that of requirepass") as caught:
            read(tmp_path / "conf", f"{other}\n{user}")
        assert caught.value.number == 2


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (f"user default on nopass #{SECRET} ~* &* +@all", "Error in user declaration: ACL users"),
        ("user eve on nopass ~* &* +@all", "Error in user declaration: ACL users are not"),
        ("user default on nopass ~* &* -@all", "Error in user declaration: ACL users are not"),
        ("user default on >secret ~* &* +@all", "Error in user declaration: ACL users are not"),
        ("loadmodule /x.so", "Modules are not supported"),
        ("sentinel myid 1", "sentinel directive while not in sentinel mode"),
    ],
)
def test_what_would_be_unsafe_to_pass_over(tmp_path: Path, line: str, reason: str) -> None:
    with pytest.raises(ConfigFileError, match=f"at line 2\n>>> '{re.escape(line)}'") as caught:
        read(tmp_path / "conf", f"hz 20\n{line}\n")
    assert caught.value.reason.startswith(reason)
