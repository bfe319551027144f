"""Integers and doubles: what is accepted, and how it is printed."""

from __future__ import annotations

import math
import re
from math import inf

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from node.values.number import (
    format_double,
    format_exact,
    is_integer,
    parse_bound,
    parse_float,
    parse_integer,
    to_double,
)

INTEGER = re.compile(rb"0|-?[1-9][0-9]{0,18}")


@given(st.integers(-(2**70), 2**70))
@example(2**63 - 1)
@example(2**63)
@example(-(2**63))
@example(-(2**63) - 1)
def test_integers_of_64_bits_are_read(number: int) -> None:
    text = b"%d" % number
    expected = number if -(2**63) <= number < 2**63 else None
    assert parse_integer(text) == expected
    assert is_integer(text) is (expected is not None)


@given(st.from_regex(rb"[-+ 0-9_a]{0,22}", fullmatch=True) | st.binary(max_size=22))
@example(b"")
@example(b"-")
@example(b"-0")
@example(b"00")
@example(b"+1")
@example(b"1_0")
@example(b" 1")
@example(b"1 ")
@example(b"--1")
@example(b"0x1")
@example("\u0661".encode())
def test_integers_are_read_strictly(text: bytes) -> None:
    number = int(text) if INTEGER.fullmatch(text) else None
    if number is not None and not -(2**63) <= number < 2**63:
        number = None
    assert parse_integer(text) == number
    assert is_integer(text) is (number is not None)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (b"0", 0.0),
        (b"3", 3.0),
        (b"-3.25", -3.25),
        (b"+5", 5.0),
        (b".5", 0.5),
        (b"5.", 5.0),
        (b"1e3", 1000.0),
        (b"1E+3", 1000.0),
        (b"0e-400", 0.0),
        (b"0.0e999999999999", 0.0),
        (b"inf", inf),
        (b"+INF", inf),
        (b"-Infinity", -inf),
        (b"0x10", 16.0),
        (b"-0X1.8p+1", -3.0),
        (b"0x.8", 0.5),
        (b"0x1.", 1.0),
        (b"0x0p99999999999999999999", 0.0),
        (b"4.9e-324", 5e-324),
        (b"3e-324", 5e-324),
        (b"1.7976931348623157e308", 1.7976931348623157e308),
    ],
)
def test_floats_that_are_read(text: bytes, number: float) -> None:
    assert parse_float(text) == number
    assert parse_bound(text) == (number, False)
    assert parse_bound(b"(" + text) == (number, True)


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b" 1", b"1 ", b"\t1", b"1\n", b"1_0", b"_1", b".", b"-", b"+", b"+-1", b"--1"),
        *(b"nan", b"-NaN", b"nan(1)", b"1e", b"1e+", b"1e400", b"-1e400", b"1e-400", b"2e-324"),
        *(b"9" * 400, b"0." + b"0" * 400 + b"1", b"1\x00", b"1,5", b"infin", b"infinityx"),
        *(b"0x", b"0x.", b"0x1p", b"0xg", b"0x1p99999", b"0x1p-99999", b"0x_1", b" 0x1", b"x1"),
        *(b"1.2.3", b"e5", b"\xb2", "\u0661".encode()),
    ],
)
def test_floats_that_are_refused(text: bytes) -> None:
    assert parse_float(text) is None


@given(st.from_regex(rb"-?[0-9]{0,9}\.?[0-9]{0,9}", fullmatch=True))
def test_decimals_are_read_to_the_last_bit(text: bytes) -> None:
    try:
        number = float(text)
    except ValueError:
        assert parse_float(text) is None
        with pytest.raises(ValueError, match="could not convert"):
            to_double(text)
    else:
        # Which tells -0 from 0 as well.
        assert str(parse_float(text)) == str(to_double(text)) == str(number)


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        (b"", (0.0, False)),
        (b"(", (0.0, True)),
        (b" 1", (1.0, False)),
        (b"(\t1", (1.0, True)),
        (b"1\x00junk", (1.0, False)),
        (b"1e400", (inf, False)),
        (b"-1e400", (-inf, False)),
        (b"1e-400", (0.0, False)),
        (b"0x1p99999", (inf, False)),
        (b"(-0x1p99999", (-inf, True)),
        (b"0x1p-99999", (0.0, False)),
        (b"-inf", (-inf, False)),
        (b"nan", None),
        (b" ", None),
        (b"1 ", None),
        (b"((1", None),
        (b"1_0", None),
        (b"abc", None),
    ],
)
def test_bounds(text: bytes, bound: tuple[float, bool] | None) -> None:
    assert parse_bound(text) == bound


@given(st.floats(allow_nan=False))
def test_repr_is_read_back(number: float) -> None:
    assert parse_float(repr(number).encode()) == number


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.0, b"0"),
        (-0.0, b"-0"),
        (3.0, b"3"),
        (-17.0, b"-17"),
        (0.1, b"0.1"),
        (0.1 + 0.2, b"0.30000000000000004"),
        (123456.789, b"123456.789"),
        (1e15, b"1000000000000000"),
        (1e18, b"1000000000000000000"),
        (2.0**62, b"4611686018427387904"),
        (-(2.0**62), b"-4611686018427387904"),
        (2.0**63, b"9223372036854776000"),
        (1e19, b"1e+19"),
        (1e20, b"1e+20"),
        (-1e20, b"-1e+20"),
        (1.5e300, b"1.5e+300"),
        (1e-5, b"0.00001"),
        (1e-6, b"0.000001"),
        (1e-7, b"1e-7"),
        (1.5e-7, b"1.5e-7"),
        (-1.25e-10, b"-1.25e-10"),
        (5e-324, b"5e-324"),
        (0.0012345678, b"0.0012345678"),
        (0.00012345678, b"1.2345678e-4"),
        (9999.1234567, b"9999.1234567"),
        (12345.1234567, b"1.23451234567e+4"),
        (12345.123456, b"12345.123456"),
        (1.7976931348623157e308, b"1.7976931348623157e+308"),
        (inf, b"inf"),
        (-inf, b"-inf"),
        (math.nan, b"nan"),
    ],
)
def test_doubles_print_as_fpconv_prints_them(number: float, text: bytes) -> None:
    assert format_double(number) == text


@given(st.floats(allow_nan=False) | st.floats(-1e6, 1e6) | st.integers(-(2**63), 2**63).map(float))
def test_printed_doubles_are_read_back(number: float) -> None:
    text = format_double(number)
    parsed = parse_float(text)
    assert parsed == number
    assert math.copysign(1, parsed) == math.copysign(1, number)
    assert len(text) <= 24
    assert re.fullmatch(rb"-?(inf|\d+(\.\d+)?(e[+-][1-9]\d*)?)", text)


def test_exact_format() -> None:
    assert format_exact(0.1) == b"0.10000000000000001"
    assert format_exact(3.0) == b"3"
    assert format_exact(-inf) == b"-inf"
    assert format_exact(1e20) == b"1e+20"
