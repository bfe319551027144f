"""What the readers of the command log get."""

from __future__ import annotations

from node.command_log import MESSAGE, CommandLog
from node.resp import encode_request


def wire(*texts: str) -> bytes:
    """Requests as they are logged."""
    return b"".join(encode_request(text.encode().split()) for text in texts)


def logged(log: CommandLog, *requests: tuple[int, str], together: bool = True) -> None:
    log.append([(db, text.encode().split()) for db, text in requests], together=together)


def test_a_select_where_the_database_changes() -> None:
    log = CommandLog()
    parts: list[bytes] = []
    log.attach(parts.append)
    logged(log, (0, "SET a 1"))
    logged(log, (0, "SET a 2"))
    logged(log, (3, "SET a 3"))
    assert parts == [wire("SELECT 0", "SET a 1"), wire("SET a 2"), wire("SELECT 3", "SET a 3")]


def test_units() -> None:
    log = CommandLog()
    parts: list[bytes] = []
    log.attach(parts.append)
    logged(log, (0, "SET a 1"), (0, "SET b 1"))
    logged(log, (0, "DEL a"), (0, "DEL b"), together=False)
    assert parts == [
        wire("SELECT 0", "MULTI", "SET a 1", "SET b 1", "EXEC"),
        wire("DEL a", "DEL b"),
    ]


def test_messages_are_for_those_who_want_them() -> None:
    """Both see the same databases, and a unit that holds one change is none without messages."""
    log = CommandLog()
    file: list[bytes] = []
    replicas: list[bytes] = []
    log.attach(file.append)
    log.attach(replicas.append, messages=True)
    logged(log, (MESSAGE, "PUBLISH c m"))
    logged(log, (MESSAGE, "PUBLISH c m"), (2, "SET a 1"))
    logged(log, (2, "SET a 2"))
    assert file == [wire("SELECT 2", "SET a 1"), wire("SET a 2")]
    assert replicas == [
        wire("PUBLISH c m"),
        wire("MULTI", "PUBLISH c m", "SELECT 2", "SET a 1", "EXEC"),
        wire("SET a 2"),
    ]
    log.detach(replicas.append)
    assert not log.message_readers
    logged(log, (MESSAGE, "PUBLISH c m"))
    assert len(file) == 2
