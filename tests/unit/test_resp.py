"""Requests in any fragmentation, protocol errors in Redis's words, replies in both protocols."""

import random

import pytest

from node.resp import (
    NULL_ARRAY,
    OK,
    BigNumber,
    Error,
    Map,
    Push,
    Reply,
    RequestParser,
    SetReply,
    Verbatim,
    encode,
    encode_request,
)
from node.words import split_words


def feed_all(data: bytes, cuts: list[int]) -> tuple[list[list[bytes]], bytes | None]:
    parser = RequestParser()
    requests: list[list[bytes]] = []
    at = 0
    for cut in [*sorted(cuts), len(data)]:
        if parser.error is not None:
            break
        if cut > at:
            requests += parser.feed(data[at:cut])
            at = cut
    if parser.error is None and not parser.size:
        assert at == len(data)
    return requests, parser.error


REQUESTS = [
    [b"PING"],
    [b"SET", b"key", b"value"],
    [b"SET", b"key", b""],
    [b"SET", b"key", b"x" * 5000],
    [b"SET", b"k", b"a\r\n*3\r\n$1\r\n"],
    [b"SET", b"k", b"\n+OK\r\n=x"],
    [b"SET", b"k", b"*99999999"],
    [b"SET", b"k", b"$99999999"],
    [b"MSET", *[b"%d" % i for i in range(3000)]],
    [b"ECHO", bytes(range(256))],
]


@pytest.mark.parametrize("seed", range(200))
def test_any_fragmentation_gives_the_same_requests(seed: int) -> None:
    rng = random.Random(seed)
    chosen = [rng.choice(REQUESTS) for _ in range(rng.randrange(1, 20))]
    data = b"".join(map(encode_request, chosen))
    cuts = [rng.randrange(len(data)) for _ in range(rng.randrange(0, 30))]
    requests, error = feed_all(data, cuts)
    assert error is None
    assert requests == chosen


def test_byte_by_byte() -> None:
    data = (
        b"".join(map(encode_request, REQUESTS[:7])) + b"set \"a b\" 'c'\r\n*0\r\n*-1\r\n\r\nping\n"
    )
    requests, error = feed_all(data, list(range(len(data))))
    assert error is None
    assert requests == [*REQUESTS[:7], [b"set", b"a b", b"c"], [b"ping"]]


def test_inline_between_multibulk() -> None:
    data = encode_request([b"GET", b"a"]) + b"PING\r\n" + encode_request([b"GET", b"b"])
    assert feed_all(data, []) == ([[b"GET", b"a"], [b"PING"], [b"GET", b"b"]], None)


@pytest.mark.parametrize("line", [b"#f", b"#t", b":0", b":7", b"_", b"$-1", b",1.5", b"(12"])
def test_what_would_be_a_value_in_a_reply_is_an_inline_request(line: bytes) -> None:
    first = [b"SET", b"key", b"x" * 400]
    data = encode_request(first) + line + b"\r\n" + encode_request([b"PING"])
    assert feed_all(data, []) == ([first, [line], [b"PING"]], None)
    assert feed_all(data + b"*2\r\n$3\r\nGE", []) == ([first, [line], [b"PING"]], None)


def test_empty_requests_are_passed_over() -> None:
    data = (
        b"*0\r\n" + encode_request([b"A"]) + b"*0\r\n*-1\r\n" + encode_request([b"B"]) + b"*2\r\n$1"
    )
    parser = RequestParser()
    assert parser.feed(data) == [[b"A"], [b"B"]]
    assert parser.feed(b"\r\nC\r\n$1\r\nD\r\n") == [[b"C", b"D"]]


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"*1\r\n:5\r\n", b"Protocol error: expected '$', got ':'"),
        (b"*1\r\n+OK\r\n", b"Protocol error: expected '$', got '+'"),
        (b"*2\r\n*1\r\n$1\r\na\r\n", b"Protocol error: expected '$', got '*'"),
        (b"*x\r\n", b"Protocol error: invalid multibulk length"),
        (b"*3000000000\r\n", b"Protocol error: invalid multibulk length"),
        (b"*01\r\n$1\r\na\r\n", b"Protocol error: invalid multibulk length"),
        (b"*1\r\n$-1\r\n", b"Protocol error: invalid bulk length"),
        (b"*1\r\n$600000000\r\n", b"Protocol error: invalid bulk length"),
        (b"*1\r\n$a\r\n", b"Protocol error: invalid bulk length"),
        (b"*1\r\n$01\r\na\r\n", b"Protocol error: invalid bulk length"),
        (b"*1\r\n$\r\n\r\n", b"Protocol error: invalid bulk length"),
        (b"*1\r\n$18446744073709551617\r\na\r\n", b"Protocol error: invalid bulk length"),
        (b"*18446744073709551617\r\n$1\r\na\r\n", b"Protocol error: invalid multibulk length"),
        (b"*\r\n$1\r\na\r\n", b"Protocol error: invalid multibulk length"),
        (b'set "a\r\n', b"Protocol error: unbalanced quotes in request"),
        (b"x" * 70000, b"Protocol error: too big inline request"),
        (b"*" + b"1" * 70000, b"Protocol error: too big mbulk count string"),
        (b"*1\r\n$" + b"1" * 70000, b"Protocol error: too big bulk count string"),
    ],
)
def test_protocol_errors(data: bytes, error: bytes) -> None:
    before = encode_request([b"PING"])
    assert feed_all(before + data, []) == ([[b"PING"]], error)
    if len(data) < 100:
        assert feed_all(before + data, list(range(len(before + data)))) == ([[b"PING"]], error)


def test_a_huge_count_allocates_nothing() -> None:
    parser = RequestParser()
    assert parser.feed(b"*2000000000\r\n$1\r\na\r\n") == []
    assert parser.error is None
    assert parser.size < 100


def test_strangers_are_held_short() -> None:
    parser = RequestParser()
    parser.stranger = True
    parser.feed(b"*11\r\n")
    assert parser.error == b"Protocol error: unauthenticated multibulk length"
    parser = RequestParser()
    parser.stranger = True
    parser.feed(b"*1\r\n$16385\r\n")
    assert parser.error == b"Protocol error: unauthenticated bulk length"


def test_a_large_argument_is_joined_once() -> None:
    parser = RequestParser()
    value = b"v" * 1_000_000
    data = encode_request([b"SET", b"k", value])
    requests: list[list[bytes]] = []
    for at in range(0, len(data), 16384):
        requests += parser.feed(data[at : at + 16384])
    assert requests == [[b"SET", b"k", value]]
    assert parser.size == 0
    assert parser.feed(encode_request([b"PING"])) == [[b"PING"]]


def test_a_request_of_many_arguments_takes_linear_time() -> None:
    argv = [b"MSET"] + [b"k"] * 400_000
    data = encode_request(argv)
    parser = RequestParser()
    requests: list[list[bytes]] = []
    for at in range(0, len(data), 16384):
        requests += parser.feed(data[at : at + 16384])
    assert requests == [argv]


@pytest.mark.parametrize(
    ("line", "arguments"),
    [
        (b"a b  c", [b"a", b"b", b"c"]),
        (b'"\\x41\\n\\t\\"" x', [b'A\n\t"', b"x"]),
        (b"'it\\'s' y", [b"it's", b"y"]),
        (b'a"b c"d', None),
        (b"a'b c' d", [b"ab c", b"d"]),
        (b'"a', None),
        (b"", []),
    ],
)
def test_split_words(line: bytes, arguments: list[bytes] | None) -> None:
    assert split_words(line) == arguments


@pytest.mark.parametrize(
    ("reply", "resp2", "resp3"),
    [
        (b"abc", b"$3\r\nabc\r\n", b"$3\r\nabc\r\n"),
        (bytearray(b"abc"), b"$3\r\nabc\r\n", b"$3\r\nabc\r\n"),
        (b"x" * 5000, b"$5000\r\n" + b"x" * 5000 + b"\r\n", b"$5000\r\n" + b"x" * 5000 + b"\r\n"),
        (5, b":5\r\n", b":5\r\n"),
        (-5, b":-5\r\n", b":-5\r\n"),
        (99999, b":99999\r\n", b":99999\r\n"),
        (OK, b"+OK\r\n", b"+OK\r\n"),
        (None, b"$-1\r\n", b"_\r\n"),
        (NULL_ARRAY, b"*-1\r\n", b"_\r\n"),
        (True, b":1\r\n", b"#t\r\n"),
        (False, b":0\r\n", b"#f\r\n"),
        (1.5, b"$3\r\n1.5\r\n", b",1.5\r\n"),
        (float("inf"), b"$3\r\ninf\r\n", b",inf\r\n"),
        (Error(b"ERR a\r\nb"), b"-ERR a  b\r\n", b"-ERR a  b\r\n"),
        ([], b"*0\r\n", b"*0\r\n"),
        ([b"a", b""], b"*2\r\n$1\r\na\r\n$0\r\n\r\n", b"*2\r\n$1\r\na\r\n$0\r\n\r\n"),
        (
            [b"a", 1, None, [b"b"], OK],
            b"*5\r\n$1\r\na\r\n:1\r\n$-1\r\n*1\r\n$1\r\nb\r\n+OK\r\n",
            b"*5\r\n$1\r\na\r\n:1\r\n_\r\n*1\r\n$1\r\nb\r\n+OK\r\n",
        ),
        (Map([b"k", 1]), b"*2\r\n$1\r\nk\r\n:1\r\n", b"%1\r\n$1\r\nk\r\n:1\r\n"),
        (SetReply([b"k"]), b"*1\r\n$1\r\nk\r\n", b"~1\r\n$1\r\nk\r\n"),
        (Push([b"k"]), b"*1\r\n$1\r\nk\r\n", b">1\r\n$1\r\nk\r\n"),
        (Verbatim(b"some"), b"$4\r\nsome\r\n", b"=8\r\ntxt:some\r\n"),
        (BigNumber(b"123"), b"$3\r\n123\r\n", b"(123\r\n"),
    ],
)
def test_encode(reply: Reply, resp2: bytes, resp3: bytes) -> None:
    assert encode(reply, 2) == resp2
    assert encode(reply, 3) == resp3


def test_long_strings_in_arrays() -> None:
    items = [b"x" * 3000, b"y"]
    assert encode(list(items), 2) == b"*2\r\n$3000\r\n" + items[0] + b"\r\n$1\r\ny\r\n"


@pytest.mark.parametrize("protocol", [2, 3])
def test_an_array_is_its_items_one_after_another(protocol: int) -> None:
    rng = random.Random(7)
    choice: list[Reply] = [b"", b"a", b"b", b"cc", b"x" * 2047, b"x" * 2048, bytearray(b"z")]
    choice += [7, -1, None, OK, True, 0.5, [], [b"a"], [b"a", [None]], NULL_ARRAY]
    for _ in range(3000):
        most = rng.choice([3, 7, len(choice)])
        items = [rng.choice(choice[:most]) for _ in range(rng.randrange(6))]
        expected = b"*%d\r\n" % len(items) + b"".join(encode(item, protocol) for item in items)
        assert encode(items, protocol) == expected
