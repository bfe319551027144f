"""Commands about the server itself: COMMAND, DEBUG, INFO, LATENCY, MEMORY, SLOWLOG and others."""

from __future__ import annotations

from typing import Final

import pytest

from tests.conftest import require_oracle
from tests.differential.pair import Argv, Check, Pair, comparing, exact, kind, plain, unordered
from tests.servers import Server, node_command
from tests.wire import Map, Reply

DATA: Final = (
    "SET string hello",
    "SET number 12",
    "RPUSH list a b",
    "HSET hash field value",
    "ZADD zset 1 a 2 b",
    "SADD set a b c",
)

# What must be the same to the last byte.
EXACT: Final = """\
COMMAND nosuch
COMMAND DOCS nosuch
COMMAND INFO nosuch get|x get|
COMMAND LIST FILTERBY ACLCAT nosuch
COMMAND LIST FILTERBY MODULE nosuch
COMMAND LIST FILTERBY nosuch x
COMMAND LIST nosuch
COMMAND LIST FILTERBY PATTERN
COMMAND GETKEYS nosuch x y
COMMAND GETKEYS GET a b
COMMAND GETKEYS CONFIG GET x
COMMAND GETKEYS MEMORY USAGE x
COMMAND GETKEYS MSET a 1 b
COMMAND GETKEYS ZINTER 0 a
COMMAND GETKEYS ZINTER x a
COMMAND GETKEYS ZUNIONSTORE d 0 a
COMMAND GETKEYS LMPOP 3 a b LEFT
COMMAND GETKEYS LMPOP 4 a b LEFT
COMMAND GETKEYS SPUBLISH a b
COMMAND GETKEYSANDFLAGS SET a b GET
COMMAND GETKEYSANDFLAGS ZUNIONSTORE d 2 a b
COMMAND GETKEYSANDFLAGS SORT a STORE b
DEBUG
DEBUG nosuch
DEBUG PROTOCOL
DEBUG PROTOCOL string
DEBUG PROTOCOL integer
DEBUG PROTOCOL double
DEBUG PROTOCOL null
DEBUG PROTOCOL array
DEBUG PROTOCOL set
DEBUG PROTOCOL map
DEBUG PROTOCOL attrib
DEBUG PROTOCOL TRUE
DEBUG PROTOCOL false
DEBUG PROTOCOL verbatim
DEBUG PROTOCOL bignum
DEBUG PROTOCOL nosuch
DEBUG CHANGE-REPL-ID
DEBUG CHANGE-REPL-ID x
DEBUG OBJECT
DEBUG OBJECT missing
DEBUG SDSLEN number
DEBUG SDSLEN list
DEBUG SDSLEN missing
DEBUG HTSTATS x
DEBUG HTSTATS 99
DEBUG HTSTATS-KEY hash
DEBUG HTSTATS-KEY string
DEBUG HTSTATS-KEY missing
DEBUG REPLYBUFFER RESIZING 1
DEBUG REPLYBUFFER PEAK-RESET-TIME x
DEBUG REPLYBUFFER PEAK-RESET-TIME RESET
DEBUG REPLYBUFFER nosuch 1
DEBUG CLIENT-EVICTION
DEBUG QUICKLIST-PACKED-THRESHOLD 0
DEBUG QUICKLIST-PACKED-THRESHOLD x
DEBUG QUICKLIST-PACKED-THRESHOLD 5gb
DEBUG SLEEP x
DEBUG SLEEP -1
DEBUG SLEEP 0.001
DEBUG SLEEP 0 1
DEBUG SET-ACTIVE-EXPIRE x
DEBUG SET-ACTIVE-EXPIRE 1
DEBUG PAUSE-CRON 1
DEBUG PAUSE-CRON 0
DEBUG LOG hello
DEBUG ERROR
DEBUG ERROR CODE text
DEBUG DIGEST-VALUE string missing list hash set zset number
DEBUG DIGEST-VALUE
DEBUG DIGEST
DEBUG DIGEST x
DEBUG POPULATE x
DEBUG POPULATE -1
DEBUG POPULATE 3 p 3
DEBUG POPULATE 3 q 30
DEBUG POPULATE 3 q -1
DEBUG POPULATE 50
DEBUG POPULATE 60
GET p:1
GET q:2
DBSIZE
DEBUG DIGEST
SAVE
SAVE x
BGSAVE x
BGSAVE SCHEDULE x
BGREWRITEAOF x
DEBUG RELOAD x
DEBUG RELOAD NOSAVE NOFLUSH x
DEBUG RELOAD
DEBUG RELOAD NOSAVE MERGE
DEBUG RELOAD NOFLUSH MERGE
DBSIZE
DEBUG DIGEST
INFO nosuch
INFO cluster
INFO CLUSTER nosuch
LATENCY
LATENCY nosuch
LATENCY GRAPH nosuch
LATENCY HISTORY nosuch
LATENCY LATEST x
LATENCY HISTOGRAM nosuch
LOLWUT VERSION x
LOLWUT VERSION 5 x
LOLWUT VERSION 6 1 x
MEMORY
MEMORY nosuch
MEMORY USAGE
MEMORY USAGE string x
MEMORY USAGE string SAMPLES
MEMORY USAGE string SAMPLES x
MEMORY USAGE string SAMPLES -1
MEMORY USAGE missing SAMPLES 0
MEMORY USAGE missing SAMPLES x
MEMORY PURGE
MEMORY PURGE x
ROLE
ROLE x
SHUTDOWN nosuch
SHUTDOWN ABORT
SHUTDOWN ABORT NOW
SHUTDOWN SAVE NOSAVE
SLOWLOG
SLOWLOG GET 1 2
SLOWLOG GET x
SLOWLOG GET -2
SLOWLOG LEN x
SLOWLOG RESET
TIME x
"""

# What must be of the same type.
KIND: Final = """\
DEBUG HELP
DEBUG OBJECT string
DEBUG SDSLEN string
DEBUG HTSTATS 0
DEBUG STRUCTSIZE
INFO
INFO everything
INFO server clients
LASTSAVE
LATENCY DOCTOR
LATENCY HELP
LATENCY RESET
LOLWUT
LOLWUT VERSION
LOLWUT VERSION 5 10 2 2
LOLWUT VERSION 6 20 10
MEMORY DOCTOR
MEMORY HELP
MEMORY MALLOC-STATS
MEMORY STATS
MEMORY USAGE string SAMPLES 0
SLOWLOG GET
SLOWLOG HELP
SLOWLOG LEN
TIME
COMMAND
COMMAND COUNT
COMMAND DOCS
COMMAND HELP
COMMAND INFO
COMMAND LIST
"""


def argv_of(line: str) -> Argv:
    """The words of a line."""
    return [word.encode() for word in line.split(" ")]


@pytest.fixture
def pair(node: Server, oracle: Server, protocol: int) -> Pair:
    """Both servers with the same data."""
    pair = Pair.connect(node, oracle, protocol)
    pair.setup(*map(argv_of, DATA))
    return pair


@pytest.mark.parametrize(("lines", "check"), [(EXACT, exact), (KIND, kind)], ids=["exact", "kind"])
def test_replies(pair: Pair, lines: str, check: Check) -> None:
    for line in lines.splitlines():
        check(pair, argv_of(line))
    pair.close()


def test_a_push_comes_before_its_reply(pair: Pair, protocol: int) -> None:
    exact(pair, [b"DEBUG", b"PROTOCOL", b"push"])
    if protocol == 3:
        assert pair.ours.read() == pair.theirs.read()
    pair.close()


def test_names_filtered_by_category(pair: Pair) -> None:
    for category in (b"transaction", b"sortedset", b"list"):
        unordered(pair, [b"COMMAND", b"LIST", b"FILTERBY", b"ACLCAT", category])
    pair.close()


def keys_of(reply: Reply) -> object:
    """The names in a map, of those that both servers have."""
    if isinstance(reply, Map):
        names = [key for key, _ in reply.pairs]
    else:
        assert isinstance(reply, list)
        names = list(reply[::2])
    return [plain(name) for name in names if name in (b"calls", b"histogram_usec")]


def test_histogram_of_a_command(pair: Pair) -> None:
    pair.setup([b"CONFIG", b"RESETSTAT"], [b"DEBUG", b"SLEEP", b"0.14"])

    def of_debug(reply: Reply) -> object:
        flat = [part for item in reply.pairs for part in item] if isinstance(reply, Map) else reply
        assert isinstance(flat, list)
        name, about = flat
        return (plain(name), keys_of(about), plain(about))

    comparing(of_debug)(pair, [b"LATENCY", b"HISTOGRAM", b"debug"])
    pair.close()


# DEBUG is not enabled. PING and EXEC tell whether a transaction has failed.
REFUSED: Final = """\
DEBUG
DEBUG HELP
DEBUG OBJECT string
MULTI
DEBUG OBJECT string
PING
EXEC
MULTI
DEBUG
PING
EXEC
INFO errorstats
CONFIG SET requirepass secret
RESET
DEBUG HELP
AUTH secret
CONFIG SET requirepass
"""


def test_debugging_that_is_not_allowed(protocol: int) -> None:
    def calls_of_debug(reply: Reply) -> object:
        assert isinstance(reply, bytes)
        (line,) = [line for line in reply.splitlines() if line.startswith(b"cmdstat_debug:")]
        fields = dict(field.split(b"=") for field in line.split(b":")[1].split(b","))
        return [fields[name] for name in (b"calls", b"rejected_calls", b"failed_calls")]

    with (
        Server(node_command(), name="node") as node,
        Server(require_oracle(), name="oracle") as oracle,
    ):
        pair = Pair.connect(node, oracle, protocol)
        exact(pair, [b"SET", b"string", b"x"])
        for line in REFUSED.splitlines():
            exact(pair, [*argv_of(line), b""] if line.endswith("requirepass") else argv_of(line))
        comparing(calls_of_debug)(pair, [b"INFO", b"commandstats"])
        pair.close()
