"""What INFO and hello say."""

from __future__ import annotations

import pytest

from sentinel.hello import Hello, parse_hello
from sentinel.information import parse_information

ID = "0123456789abcdef0123456789abcdef01234567"


def test_a_master_tells_its_replicas_in_both_formats() -> None:
    information = parse_information(
        f"# Server\r\nrun_id:{ID}\r\n# Replication\r\nrole:master\r\nconnected_slaves:4\r\n"
        "slave0:ip=10.0.0.2,port=6380,state=online,offset=14,lag=1\r\n"
        "slave1:10.0.0.3,6381,online\r\n"
        "slave2:ip=fe80::1,port=6382,state=wait_bgsave,offset=0,lag=0\r\n"
        "slave3:ip=,port=0,state=online\r\nslave4:nonsense\r\n"
        "slave_expires_tracked_keys:0\r\n"
    )
    assert information.run_id == ID
    assert information.role == "master"
    assert information.replicas == [("10.0.0.2", 6380), ("10.0.0.3", 6381), ("fe80::1", 6382)]


def test_a_replica_tells_how_it_is() -> None:
    information = parse_information(
        f"run_id:{ID}\r\nrole:slave\r\nmaster_host:master.example\r\nmaster_port:6379\r\n"
        "master_link_status:down\r\nmaster_link_down_since_seconds:12\r\n"
        "slave_repl_offset:42\r\nslave_priority:7\r\nreplica_announced:0\r\n"
    )
    assert information.role == "slave"
    assert information.master_host == "master.example"
    assert information.master_port == 6379
    assert information.master_link_up is False
    assert information.master_link_down_time == 12_000
    assert information.offset == 42
    assert information.priority == 7
    assert information.replica_announced is False


def test_what_is_missing_or_damaged_has_no_value() -> None:
    information = parse_information("run_id:short\r\nrole:other\r\nmaster_port:x\r\nno line\r\n")
    assert information.run_id == ""
    assert information.role == ""
    assert information.master_port is None
    assert information.offset is None
    assert information.master_link_down_time == 0


def test_a_hello_is_read_as_it_is_written() -> None:
    text = f"10.0.0.1,26379,{ID},3,mymaster,10.0.0.2,6379,2".encode()
    hello = parse_hello(text)
    assert hello is not None
    assert (hello.host, hello.port, hello.run_id, hello.current_epoch) == (
        "10.0.0.1",
        26379,
        ID,
        3,
    )
    assert (hello.master_name, hello.master_host, hello.master_port, hello.config_epoch) == (
        "mymaster",
        "10.0.0.2",
        6379,
        2,
    )
    assert hello.format() == text
    ipv6 = Hello("fe80::1", 26379, ID, 0, "m", "::1", 6379, 0).format()
    assert parse_hello(ipv6) is not None


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"a,b,c",
        f"10.0.0.1,26379,{ID},3,mymaster,10.0.0.2,6379".encode(),
        f"10.0.0.1,26379,{ID},3,mymaster,10.0.0.2,6379,2,9".encode(),
        f"10.0.0.1,port,{ID},3,mymaster,10.0.0.2,6379,2".encode(),
        f"10.0.0.1,0,{ID},3,mymaster,10.0.0.2,6379,2".encode(),
        f"10.0.0.1,26379,{ID},-1,mymaster,10.0.0.2,6379,2".encode(),
        f"10.0.0.1,26379,{ID},3,mymaster,10.0.0.2,70000,2".encode(),
        f"10.0.0.1,26379,{ID},3,mymaster,10.0.0.2,6379,{1 << 64}".encode(),
        b"10.0.0.1,26379,,3,mymaster,10.0.0.2,6379,2",
        b"\xff,26379,\xff",
    ],
)
def test_what_is_no_hello_is_none(text: bytes) -> None:
    assert parse_hello(text) is None
