"""CLUSTER NODES and the notation of slots."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.tool.connection import Address, Credentials, parse_address
from cluster.tool.view import (
    SLOTS,
    ViewError,
    format_ranges,
    list_ranges,
    parse_nodes,
    parse_ranges,
)

A, B, C = (letter * 40 for letter in "abc")

TEXT = f"""\
{A} 127.0.0.1:7000@17000,one.example,,tls-port=0,shard-id=x myself,master - 0 0 3 connected \
0-99 200 [5->-{B}] [7-<-{C}]
{B} 10.0.0.2:7001@17001 master,fail? - 1 2 4 disconnected 300
{C} ::1:7002@17002 slave {B} 0 5 4 connected
{"d" * 40} :0@0 master,noaddr - 0 0 0 disconnected
{"e" * 40} 10.0.0.5:7005@17005 handshake - 0 0 0 disconnected
"""


def test_a_view() -> None:
    view = parse_nodes(TEXT)
    assert view.myself == A
    assert view.me.address == Address("127.0.0.1", 7000)
    assert view.me.bus_port == 17000
    assert view.me.hostname == "one.example"
    assert view.me.epoch == 3
    assert view.me.slots == {*range(100), 200}
    assert view.migrating == {5: B}
    assert view.importing == {7: C}
    assert view.nodes[B].failing
    assert not view.nodes[B].linked
    assert view.nodes[C].address == Address("::1", 7002)
    assert view.nodes[C].master == B
    assert not view.nodes[C].is_master
    assert not view.nodes["d" * 40].usable
    assert set(view.known()) == {A, B, C, "d" * 40}
    assert view.owner(300) == B
    assert view.owner(301) == ""


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        TEXT.replace("myself,", ""),
        TEXT.replace("200 [", "20000 ["),
        TEXT.replace("->-", "=="),
        TEXT.replace(" 3 connected", " x connected"),
    ],
)
def test_what_is_no_view(text: str) -> None:
    with pytest.raises(ViewError):
        parse_nodes(text)


@given(st.sets(st.integers(0, SLOTS - 1), min_size=1, max_size=50))
def test_ranges_name_the_slots(slots: set[int]) -> None:
    assert parse_ranges(format_ranges(slots)) == sorted(slots)
    ranges = list_ranges(slots)
    assert all(first <= last for first, last in ranges)
    # As few ranges as possible.
    assert all(b[0] > a[1] + 1 for a, b in pairwise(ranges))


def test_long_lists_are_cut() -> None:
    assert format_ranges([1, 3, 5, 7], 2) == "1,3 and 2 more"
    assert format_ranges([]) == "-"


@pytest.mark.parametrize("text", ["", "x", "5-", "9-5", "16384", "1,,2", "-1"])
def test_what_is_no_range(text: str) -> None:
    with pytest.raises(ValueError, match=r"slot|within"):
        parse_ranges(text)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("localhost:7000", ("localhost", 7000)),
        ("127.0.0.1:7000@17000", ("127.0.0.1", 7000)),
        ("[::1]:7000", ("::1", 7000)),
        ("::1:7000", ("::1", 7000)),
    ],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", "host", ":7000", "host:", "host:0", "host:70000", "host:x"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="is not host"):
        parse_address(text)


def test_credentials() -> None:
    assert Credentials().words() == []
    assert Credentials("", "secret").words() == ["secret"]
    assert Credentials("", "secret").migrate_words() == ["AUTH", "secret"]
    assert Credentials("ada", "secret").words() == ["ada", "secret"]
    assert Credentials("ada", "secret").migrate_words() == ["AUTH2", "ada", "secret"]
