"""Who may go on with whose history."""

from __future__ import annotations

from itertools import count

from node.replication.history import NO_ID, History

SIZE = 1000


def make_history() -> History:
    numbers = count()
    return History(lambda: b"%040x" % next(numbers))


def test_a_master_that_kept_nothing_begins_anew() -> None:
    history = make_history()
    before = history.id
    assert not history.can_continue(before, 0)
    history.serve(SIZE)
    assert history.id != before
    assert not history.can_continue(before, 0)
    assert history.can_continue(history.id, 0)
    same = history.id
    history.serve(SIZE)
    assert history.id == same


def test_positions_that_are_held() -> None:
    history = make_history()
    history.serve(SIZE)
    backlog = history.open_backlog(SIZE)
    for _ in range(10):
        backlog.append(b"x" * 20_000)
    backlog.trim(backlog.end)
    assert history.offset == 200_000
    assert history.can_continue(history.id, 200_000)
    assert history.can_continue(history.id, backlog.start)
    assert not history.can_continue(history.id, backlog.start - 1)
    assert not history.can_continue(history.id, 200_001)
    assert not history.can_continue(NO_ID, 200_000)


def test_a_promoted_replica_continues_its_masters_history() -> None:
    history = make_history()
    history.open_backlog(SIZE)
    history.join(b"a" * 40, 500)
    history.open_backlog(SIZE).append(b"x" * 100)
    history.fork()
    assert history.id != b"a" * 40
    history.open_backlog(SIZE).append(b"y" * 50)
    # Another replica of the old master, which had less of it, or as much.
    assert history.can_continue(b"a" * 40, 550)
    assert history.can_continue(b"a" * 40, 600)
    # One that had more has seen what we have not.
    assert not history.can_continue(b"a" * 40, 601)
    assert history.can_continue(history.id, 650)
    history.begin_anew()
    assert not history.can_continue(b"a" * 40, 600)


def test_a_master_with_a_new_id() -> None:
    history = make_history()
    history.open_backlog(SIZE)
    history.join(b"a" * 40, 500)
    history.rename(b"a" * 40)
    assert history.second_id == NO_ID
    history.rename(b"b" * 40)
    assert (history.id, history.second_id, history.second_end) == (b"b" * 40, b"a" * 40, 500)


def test_without_a_backlog_the_history_ends() -> None:
    history = make_history()
    history.serve(SIZE)
    history.open_backlog(SIZE).append(b"x" * 10)
    before = history.id
    history.drop_backlog()
    assert history.offset == 10
    assert history.id != before
    assert history.second_id == NO_ID
    assert not history.can_continue(before, 10)
