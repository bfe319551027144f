"""Who is master, and whose replica."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.tool.connection import Address
from cluster.tool.errors import Refused
from cluster.tool.layout import count_together, plan_layout, share_slots
from cluster.tool.view import SLOTS


@st.composite
def nodes(draw: st.DrawFn, replicas: int) -> list[Address]:
    """Enough nodes for three masters, on one host or several."""
    hosts = draw(st.integers(1, 6))
    count = draw(st.integers(3 * (replicas + 1), 3 * (replicas + 1) + 12))
    return [Address(f"10.0.0.{draw(st.integers(1, hosts))}", 7000 + n) for n in range(count)]


@given(st.data(), st.integers(0, 3))
def test_everybody_has_a_place(data: st.DataObject, replicas: int) -> None:
    named = data.draw(nodes(replicas))
    places = plan_layout(named, replicas)
    assert sorted(place.address for place in places) == sorted(named)
    masters = [place for place in places if place.slots is not None]
    assert len(masters) == len(named) // (replicas + 1)
    assert sorted(slot for place in masters for slot in place.slots or ()) == list(range(SLOTS))
    followers = Counter(place.master for place in places if place.master is not None)
    assert set(followers) <= {place.address for place in masters}
    if replicas:
        assert len(followers) == len(masters)
        assert min(followers.values()) >= replicas
        assert max(followers.values()) - min(followers.values()) <= 1
    assert plan_layout(named, replicas) == places  # the same each time


@given(st.integers(2, 6), st.integers(1, 2), st.integers(3, 6))
def test_equal_hosts_keep_masters_and_replicas_apart(hosts: int, replicas: int, each: int) -> None:
    count = hosts * each
    if hosts <= replicas or count // (replicas + 1) < 3:
        return
    named = [Address(f"10.0.0.{n % hosts}", 7000 + n) for n in range(count)]
    assert count_together(plan_layout(named, replicas)) == 0


def test_one_host_is_possible() -> None:
    named = [Address("127.0.0.1", 7000 + n) for n in range(6)]
    assert count_together(plan_layout(named, 1)) == 3


def test_slots_are_shared_as_redis_does() -> None:
    assert share_slots(3) == [range(5461), range(5461, 10923), range(10923, 16384)]
    assert [len(share) for share in share_slots(5)] == [3277, 3277, 3276, 3277, 3277]


def test_too_few_nodes() -> None:
    named = [Address("127.0.0.1", 7000 + n) for n in range(5)]
    with pytest.raises(Refused, match="at least 3 masters"):
        plan_layout(named, 1)
    with pytest.raises(Refused, match="twice"):
        plan_layout([*named, named[0]], 0)
