"""Numbers, patterns, digests and encodings of `node.values` against a real server, directly.

The commands that use them have tests of their own; here the values are compared without any.
"""

from __future__ import annotations

from random import Random

import pytest

from node.values import pattern
from node.values.collection import Collection, Limits
from node.values.digest import dataset_digest, key_digest, value_digest
from node.values.hash import Hash
from node.values.list import List
from node.values.long_double import add_long_double
from node.values.number import parse_bound, parse_float, parse_integer
from node.values.set import Set
from node.values.sorted_set import SortedSet
from tests.servers import Server
from tests.wire import Client, Error, Simple

ODD_NUMBERS = [
    *(b"inf", b"-inf", b"nan", b" 1", b"1 ", b"1_0", b"", b"+1", b".5", b"5.", b".", b"1e", b"-"),
    *(b"0", b"-0", b"+-1", b"1\x00", b"InFinity", b"infin", b"0x", b"0x.", b"0x.p1", b"1e+"),
    *(b"1e+5", b"\t1", b"0x1.8p3", b"-0x.fffffffffffffffffp-3", b"0x123456789abcdef0123p-50"),
    *(b"0x1p-16445", b"0x1p-16446", b"0x1.8p-16446", b"0x1p16384", b"0x0p99999999999"),
    *(b"1e4931", b"1.18973e4932", b"1e4933", b"9e-4940", b"1e-4951", b"1e-5000", b"1e999999"),
    *(b"9223372036854775807", b"9223372036854775808", b"-9223372036854775808", b"007", b"2e-324"),
]


def draw_number(rng: Random) -> bytes:
    """Return a number in one of many notations, or something like one."""
    kind = rng.random()
    if kind < 0.3:
        return b"%d" % rng.randrange(-(10 ** rng.randrange(1, 25)), 10 ** rng.randrange(1, 25))
    if kind < 0.6:
        number = rng.uniform(-1, 1) * 10 ** rng.randrange(18)
        return b"%.*f" % (rng.randrange(20), number)
    if kind < 0.8:
        number = rng.uniform(-1, 1) * 10.0 ** rng.randrange(-30, 30)
        return b"%.*e" % (rng.randrange(25), number)
    if kind < 0.9:
        return rng.choice(ODD_NUMBERS)
    return b"0.%0*d" % (rng.randrange(1, 40), rng.randrange(1, 10**9))


def add(a: bytes, b: bytes) -> bytes:
    """Return what INCRBYFLOAT answers, errors included."""
    try:
        return add_long_double(a, b)
    except ValueError:
        return b"ERR value is not a valid float"
    except OverflowError:
        return b"ERR increment would produce NaN or Infinity"


def text_of(reply: object) -> bytes:
    assert isinstance(reply, (bytes, Simple, Error))
    return reply if isinstance(reply, bytes) else reply.text


def test_long_doubles(oracle: Server) -> None:
    rng = Random(1)
    with oracle.connect() as client:
        for _ in range(30):
            pairs = [(draw_number(rng), draw_number(rng)) for _ in range(100)]
            requests = []
            for a, b in pairs:
                requests += [[b"SET", b"k", a], [b"INCRBYFLOAT", b"k", b]]
            replies = client.pipeline(requests)[1::2]
            for (a, b), reply in zip(pairs, replies, strict=True):
                assert add(a, b) == text_of(reply), (a, b)


def test_numbers_that_are_read(oracle: Server) -> None:
    rng = Random(2)
    with oracle.connect() as client:
        for _ in range(2000):
            text = draw_number(rng)
            refused = isinstance(client("ZADD", "z", text, "m"), Error)
            number = parse_float(text)
            assert refused is (number is None), text
            if number is not None:
                assert parse_float(text_of(client("ZSCORE", "z", "m"))) == number
            text = rng.choice([b"", b"("]) + text
            refused = isinstance(client("ZCOUNT", "none", text, "+inf"), Error)
            assert refused is (parse_bound(text) is None), text
            refused = isinstance(client("GETRANGE", "none", text, "0"), Error)
            assert refused is (parse_integer(text) is None), text


def test_patterns(oracle: Server) -> None:
    rng = Random(3)
    pieces = [b"a", b"b", b"A", b"-", b"[", b"]", b"^", b"\\", b"*", b"?", b"\xe1", b"\x80", b"\0"]
    weights = [8, 6, 3, 4, 5, 5, 3, 4, 6, 4, 2, 2, 1]
    keys = {b"".join(rng.choices(pieces, k=rng.randrange(8))) for _ in range(300)}
    with oracle.connect() as client:
        client("MSET", *[word for key in sorted(keys) for word in (key, b"")])
        for _ in range(2000):
            glob = b"".join(rng.choices(pieces, weights, k=rng.randrange(9)))
            if glob == b"*":
                continue  # KEYS takes a way of its own then
            reply = client("KEYS", glob)
            assert isinstance(reply, list)
            elements = pattern.parse(glob)
            match = pattern.compile(glob)
            assert {key for key in keys if match(key)} == set(reply), glob
            assert {key for key in keys if pattern.match_elements(elements, key)} == set(reply)


def test_patterns_without_case(oracle: Server) -> None:
    rng = Random(4)
    pieces = [b"a", b"A", b"s", b"E", b"e-", b"*", b"[", b"]", b"A-F", b"f-B", b"\\A", b"\\a", b"^"]
    with oracle.connect() as client:
        reply = client("CONFIG", "GET", "*")
        assert isinstance(reply, list)
        names = [text_of(name) for name in reply[::2]]
        for _ in range(1000):
            glob = b"*%s*" % b"".join(rng.choices(pieces, k=rng.randrange(1, 6)))
            reply = client("CONFIG", "GET", glob)
            assert isinstance(reply, list)
            found = {text_of(name) for name in reply[::2]}
            assert {name for name in names if pattern.matches(glob, name, True)} == found, glob


def fill(rng: Random, client: Client, key: bytes) -> bytes | Collection:
    """Make a random value under a key and return ours of the same data."""
    count = rng.choice([1, 3, 50, 127, 128, 129, 700])
    items = [
        rng.randbytes(rng.choice([0, 5, 63, 64, 65]))
        if rng.random() < 0.1
        else b"%d" % rng.randrange(-1000, 10**9)
        for _ in range(count)
    ]
    limits = Limits()
    kind = rng.randrange(5)
    if kind == 0:
        client("SET", key, items[0])
        return items[0]
    if kind == 1:
        client("RPUSH", key, *items)
        elements = List(limits)
        elements.extend_right(items)
        return elements
    if kind == 2:
        client("SADD", key, *items)
        members = Set(limits)
        members.update(items)
        return members
    if kind == 3:
        scores = [rng.choice([rng.random() * 1e6, 7.0, float("inf"), -0.0, 1e-300]) for _ in items]
        ordered = SortedSet(limits)
        for score, item in zip(scores, items, strict=True):
            client("ZADD", key, repr(score), item)
            ordered.add(item, score)
        return ordered
    fields = Hash(limits)
    for item in items:
        client("HSET", key, item, item[:9])
        fields.set(item, item[:9])
    return fields


@pytest.mark.parametrize("seed", range(3))
def test_digests_and_encodings(oracle: Server, seed: int) -> None:
    rng = Random(seed)
    data: dict[int, list[bytes]] = {}
    with oracle.connect() as client:
        for i in range(60):
            number = rng.choice([0, 0, 3, 15])
            client("SELECT", number)
            key = b"key:%d" % i
            value = fill(rng, client, key)
            expires = rng.random() < 0.3
            if expires:
                client("PEXPIRE", key, 10**7 + i)
            reply = client("DEBUG", "DIGEST-VALUE", key)
            assert isinstance(reply, list)
            assert text_of(reply[0]) == value_digest(value, expires).hex().encode()
            if isinstance(value, (Hash, SortedSet)):
                assert text_of(client("OBJECT", "ENCODING", key)) == value.encoding().encode()
            data.setdefault(number, []).append(key_digest(key, value, expires))
        everything = dataset_digest((number, data[number]) for number in sorted(data))
        assert text_of(client("DEBUG", "DIGEST")) == everything.hex().encode()
