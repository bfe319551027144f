"""A stream from a socket that the test fills, read whenever the test says so."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from threading import get_native_id

import pytest

from node.replication.execution import Execution
from node.replication.inflow import ASKED_NS, FLOW_NS, SERVED_NS, Inflow
from node.resp import encode_request
from node.scheduling import Scheduling
from tests.inprocess import LocalServer

PIECE = encode_request([b"INCR", b"number"])
STEP_NS = FLOW_NS // 5


class Policy(Scheduling):
    """Says what is asked for, and asks for nothing."""

    def give_way(self, on: bool) -> None:
        self.gives_way = on


class Stream:
    """A master's socket, and the inflow at its other end."""

    def __init__(self) -> None:
        self.server = LocalServer()
        self.policy = Policy()
        self.master, sock = self.server.server.network.pair()
        self.sock = sock
        session = self.server.engine.open_session()
        execution = Execution(self.server.engine, session, lambda _: None)
        self.heard = 0
        self.grown = b""
        self.inflow = Inflow(
            self.server.server.hub, execution, self.policy, sock, self._hear, self._feed
        )
        self.inflow.begin()

    def _hear(self, size: int) -> None:
        self.heard += size

    def _feed(self, data: bytes) -> None:
        self.grown += data

    def close(self) -> None:
        self.inflow.end()
        self.master.close()
        self.sock.close()
        self.server.close()

    def pass_piece(self, wait_ns: int = STEP_NS) -> bool:
        """One more piece comes after so long; whether the inflow rests then."""
        self.server.clock.ns += wait_ns
        self.master.send(PIECE)
        return self.inflow.attend()

    def flow(self, nanoseconds: int) -> bool:
        """Piece after piece comes for so long; whether the server gives way in the end."""
        for _ in range(nanoseconds // STEP_NS + 3):
            self.pass_piece()
        return self.policy.gives_way


@pytest.fixture
def stream() -> Iterator[Stream]:
    opened = Stream()
    yield opened
    opened.close()


def test_a_flow_rests_and_gives_way_until_it_ends(stream: Stream) -> None:
    assert not stream.pass_piece()
    assert stream.pass_piece()
    assert not stream.policy.gives_way  # not before nobody has asked for anything for a while
    assert stream.flow(SERVED_NS)
    stream.server.clock.ns += STEP_NS
    assert not stream.inflow.attend()  # nothing has come
    assert not stream.policy.gives_way
    assert stream.heard == len(stream.grown)
    assert stream.server.connect()("GET", "number") == b"%d" % (stream.heard // len(PIECE))


def test_pieces_now_and_then_are_executed_at_once(stream: Stream) -> None:
    for _ in range(3000):
        assert not stream.pass_piece(2 * FLOW_NS)
    assert not stream.policy.gives_way


def test_a_server_with_clients_gives_way_to_nobody(stream: Stream) -> None:
    statistics = stream.server.server.hub.statistics
    assert stream.flow(SERVED_NS)
    statistics.reads += 1
    assert stream.pass_piece()
    assert not stream.policy.gives_way
    assert not stream.flow(SERVED_NS // 3)
    statistics.reads = 0  # CONFIG RESETSTAT
    assert not stream.flow(SERVED_NS // 3)
    assert stream.flow(SERVED_NS)


def test_nor_does_one_that_is_asked_for_its_offset(stream: Stream) -> None:
    assert stream.flow(SERVED_NS)
    stream.inflow.asked = True
    assert not stream.pass_piece()
    assert not stream.policy.gives_way
    assert not stream.flow(ASKED_NS // 3)
    assert stream.flow(ASKED_NS)


@pytest.mark.parametrize("breaks", [True, False])
def test_nor_does_one_without_a_master(stream: Stream, breaks: bool) -> None:
    assert stream.flow(SERVED_NS)
    if breaks:
        stream.master.shutdown(socket.SHUT_WR)
        assert not stream.inflow.attend()
        assert isinstance(stream.inflow.failure, EOFError)
    else:
        stream.inflow.end()
    assert not stream.policy.gives_way


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has the policy")
def test_the_policy_of_the_thread() -> None:
    me = get_native_id()
    scheduling = Scheduling()
    assert os.sched_getscheduler(me) == os.SCHED_OTHER
    for _ in range(2):
        for on, policy in ((True, os.SCHED_BATCH), (False, os.SCHED_OTHER)):
            scheduling.give_way(on)
            scheduling.give_way(on)
            assert scheduling.gives_way == on
            assert os.sched_getscheduler(me) == policy


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has the policy")
def test_what_the_operator_has_chosen_stays() -> None:
    me = get_native_id()
    scheduling = Scheduling()
    os.sched_setscheduler(me, os.SCHED_BATCH, os.sched_param(0))
    try:
        for on in (True, False):
            scheduling.give_way(on)
            assert not scheduling.gives_way
            assert os.sched_getscheduler(me) == os.SCHED_BATCH
    finally:
        os.sched_setscheduler(me, os.SCHED_OTHER, os.sched_param(0))
