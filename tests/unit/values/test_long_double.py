"""The arithmetic of INCRBYFLOAT: results of a real server, and laws that hold for any operands."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.values.long_double import INFINITE, add, add_long_double, parse_long_double


@pytest.mark.parametrize(
    ("a", "b", "total"),
    [
        (b"10.50", b"0.1", b"10.6"),
        (b"5.0e3", b"2.0e2", b"5200"),
        (b"3", b"1.1", b"4.1"),
        (b"0.1", b"0.2", b"0.3"),
        (b"1", b"-1", b"0"),
        (b"-0", b"-0", b"0"),
        (b"0", b"-1e-30", b"0"),
        (b"0", b"1e-17", b"0.00000000000000001"),
        (b"0", b"5.1e-18", b"0.00000000000000001"),
        (b"0", b"4.9e-18", b"0"),
        (b"1e17", b"0.1", b"100000000000000000.1015625"),
        (b"1e20", b"1", b"100000000000000000000"),
        (b"18446744073709551615", b"1", b"18446744073709551616"),
        (b"18446744073709551616", b"1", b"18446744073709551616"),
        (b"18446744073709551616", b"3", b"18446744073709551620"),
        (b"0x10", b"0.5", b"16.5"),
        (b"-0x.8p1", b"0", b"-1"),
        (b"12345678901234567890123", b"0", b"12345678901234567889920"),
        (b"0." + b"0" * 5000, b"2", b"2"),
    ],
)
def test_sums(a: bytes, b: bytes, total: bytes) -> None:
    assert add_long_double(a, b) == total
    assert add_long_double(b, a) == total


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b" 1", b"1 ", b"1_0", b"nan", b"1e", b".", b"-", b"+-1", b"abc", b"1\x00", b"0x"),
        *(b"1e5000", b"-1e99999999999999999999", b"1e-5000", b"1e-99999999999999999999", b"0x.p1"),
        *(b"0x1p16384", b"0x1p-16446", b"0." + b"0" * 5100 + b"1", b"1" * 5120, b"infin"),
    ],
)
def test_not_numbers(text: bytes) -> None:
    assert parse_long_double(text) is None
    with pytest.raises(ValueError, match="not a valid float"):
        add_long_double(text, b"1")
    with pytest.raises(ValueError, match="not a valid float"):
        add_long_double(b"1", text)


@pytest.mark.parametrize(
    ("a", "b"),
    [(b"inf", b"1"), (b"1", b"-inf"), (b"inf", b"-Infinity"), (b"1.18e4932", b"1.18e4932")],
)
def test_sums_that_are_not_finite(a: bytes, b: bytes) -> None:
    with pytest.raises(OverflowError):
        add_long_double(a, b)


def test_limits_of_the_format() -> None:
    assert parse_long_double(b"0x1p-16445") == (1, -16445)
    assert parse_long_double(b"0x1.8p-16446") == (1, -16445)
    assert parse_long_double(b"1.18973149535723176e4932") is not None
    assert parse_long_double(b"1.18973149535723177e4932") is None
    assert parse_long_double(b"-inf") == (-1, INFINITE)
    largest = add_long_double(b"1.18973149535723176e4932", b"0")
    assert len(largest) == 4933


NUMBERS = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**30), max_value=10**30)


@given(NUMBERS)
def test_reading_rounds_to_64_bits(number: Decimal) -> None:
    parsed = parse_long_double(str(number).encode())
    exact = Fraction(number)
    if parsed is None:
        assert abs(exact) < Fraction(1, 2**16400)
        return
    mantissa, exponent = parsed
    assert abs(mantissa).bit_length() <= 64
    value = Fraction(mantissa) * Fraction(2) ** exponent
    if exact:
        assert abs(value - exact) / abs(exact) <= Fraction(1, 2**64)


@given(NUMBERS, NUMBERS)
def test_sums_are_rounded_once(a: Decimal, b: Decimal) -> None:
    x = parse_long_double(str(a).encode())
    y = parse_long_double(str(b).encode())
    if x is None or y is None:
        return
    exact = x[0] * Fraction(2) ** x[1] + y[0] * Fraction(2) ** y[1]
    mantissa, exponent = add(x, y)
    assert abs(mantissa).bit_length() <= 64
    value = mantissa * Fraction(2) ** exponent
    assert abs(value - exact) <= abs(exact) * Fraction(1, 2**64)
    assert add(y, x) == (mantissa, exponent)
