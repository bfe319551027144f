"""The x87 `long double` arithmetic of INCRBYFLOAT and HINCRBYFLOAT, done with integers.

Redis keeps such numbers in the 80-bit format of x86-64: a mantissa of 64 bits, an exponent of 15.
Its results are visible in the 17 decimals it prints, so equal results need equal rounding: each
operand is rounded to 64 bits when it is read and the sum once more, to even on a tie.

A number is a pair (mantissa, exponent) of the value mantissa * 2**exponent, the mantissa an integer
with a sign; infinities are (1, INFINITE) and (-1, INFINITE).  The sign of zero is not kept, since
the output never shows it.
"""

import re
from typing import Final

LongDouble = tuple[int, int]

MANTISSA_BITS: Final = 64
MIN_EXPONENT: Final = -16445
"""Exponent of the last mantissa bit of the smallest numbers (denormals)."""
MAX_TOP: Final = 16384
"""A number of 2**MAX_TOP or more is infinite."""
INFINITE: Final = 1 << 20
MAX_TEXT: Final = 5 * 1024
"""Texts of this length are no numbers (`string2ld` copies into a buffer of this size)."""

DECIMAL: Final = re.compile(rb"([+-]?)(?:([0-9]+)\.?([0-9]*)|\.([0-9]+))(?:[eE]([+-]?[0-9]+))?")
HEXADECIMAL: Final = re.compile(
    rb"([+-]?)0[xX](?:([0-9a-fA-F]+)\.?([0-9a-fA-F]*)|\.([0-9a-fA-F]+))(?:[pP]([+-]?[0-9]+))?"
)
INFINITIES: Final = frozenset((b"inf", b"infinity"))
MIN_MAGNITUDE: Final = -4960
MAX_MAGNITUDE: Final = 4940
"""Powers of ten beyond the format's range; what lies between is rounded to know."""

FAR: Final = 100_000
"""An exponent so far from zero that no mantissa a text can hold brings the number back."""

SCALE: Final = 10**17
LONG: Final = 10**4000
"""Python converts integers up to 4300 digits at once; the largest number here has 4933."""


def parse_long_double(text: bytes) -> LongDouble | None:
    """Return the number that strtold reads from the whole text, rounded, or None (`string2ld`).

    Infinities are numbers here, NaN is not; nor is a finite number that rounds to infinity or one
    other than zero that rounds to zero.
    """
    negative = text[:1] == b"-"
    whole, _, fraction = (text[1:] if negative else text).partition(b".")
    digits = whole + fraction
    if len(digits) < 20 and digits.isdigit():
        # The usual case: a short number without an exponent.
        number = int(digits)
        if number == 0:
            return 0, 0
        rounded = _divide(number, 10 ** len(fraction)) if fraction else (number, 0)
        return (-rounded[0] if negative else rounded[0]), rounded[1]
    return _parse_any(text)


def _parse_any(text: bytes) -> LongDouble | None:
    """Do the same for a number in any notation."""
    if len(text) >= MAX_TEXT:
        return None
    match = DECIMAL.fullmatch(text)
    if match is not None:
        sign, whole, fraction, bare, power = match.groups()
        if bare is not None:
            whole, fraction = b"", bare
        digits = (whole + fraction).lstrip(b"0")
        if not digits:
            return 0, 0
        exponent = _clamp(power) - len(fraction)
        magnitude = len(digits) + exponent
        if magnitude < MIN_MAGNITUDE or magnitude > MAX_MAGNITUDE:
            return None
        # Python limits the digits of one int(); a text is only a little longer than that limit.
        number = 0
        for start in range(0, len(digits), 4000):
            part = digits[start : start + 4000]
            number = number * 10 ** len(part) + int(part)
        if exponent >= 0:
            rounded = _round(number * 10**exponent, 0, False)
        else:
            rounded = _divide(number, 10**-exponent)
    else:
        match = HEXADECIMAL.fullmatch(text)
        if match is None:
            return _parse_infinity(text)
        sign, whole, fraction, bare, power = match.groups()
        if bare is not None:
            whole, fraction = b"", bare
        number = int(whole + fraction, 16)
        if number == 0:
            return 0, 0
        rounded = _round(number, _clamp(power) - 4 * len(fraction), False)
    mantissa, exponent = rounded
    if mantissa == 0 or exponent == INFINITE:
        return None
    return (-mantissa if sign == b"-" else mantissa), exponent


def _parse_infinity(text: bytes) -> LongDouble | None:
    bare = text[1:] if text[:1] in (b"+", b"-") else text
    if bare.lower() in INFINITIES:
        return (-1 if text[:1] == b"-" else 1), INFINITE
    return None


def _clamp(power: bytes | None) -> int:
    """Return an exponent's value, or FAR in place of one yet further out."""
    if power is None:
        return 0
    if len(power.lstrip(b"+-0")) > 6:
        return -FAR if power[:1] == b"-" else FAR
    return max(-FAR, min(FAR, int(power)))


def _round(mantissa: int, exponent: int, sticky: bool) -> LongDouble:
    """Round mantissa * 2**exponent, for a mantissa >= 0, to what 80 bits hold.

    `sticky` says that the true value lies a little above; then the mantissa must have more than 64
    bits, or reach below MIN_EXPONENT.
    """
    if mantissa == 0:
        return 0, 0
    top = mantissa.bit_length() + exponent
    last = max(top - MANTISSA_BITS, MIN_EXPONENT)
    drop = last - exponent
    if drop > 0:
        if drop > mantissa.bit_length() + 1:
            return 0, 0
        rest = mantissa & ((1 << drop) - 1)
        half = 1 << (drop - 1)
        mantissa >>= drop
        exponent = last
        if rest > half or (rest == half and (sticky or mantissa & 1)):
            mantissa += 1
            if mantissa >> MANTISSA_BITS:
                mantissa >>= 1
                exponent += 1
        if mantissa == 0:
            return 0, 0
        top = mantissa.bit_length() + exponent
    if top > MAX_TOP:
        return 1, INFINITE
    return mantissa, exponent


def _divide(numerator: int, denominator: int) -> LongDouble:
    """Round the quotient of two positive integers."""
    shift = max(0, MANTISSA_BITS + 2 + denominator.bit_length() - numerator.bit_length())
    quotient, rest = divmod(numerator << shift, denominator)
    return _round(quotient, -shift, rest != 0)


def add(a: LongDouble, b: LongDouble) -> LongDouble:
    """Return the rounded sum; OverflowError when it is infinite or not a number."""
    exponent = min(a[1], b[1])
    if a[1] == INFINITE or b[1] == INFINITE:
        raise OverflowError("increment would produce NaN or Infinity")
    total = (a[0] << (a[1] - exponent)) + (b[0] << (b[1] - exponent))
    mantissa, exponent = _round(abs(total), exponent, False)
    if exponent == INFINITE:
        raise OverflowError("increment would produce NaN or Infinity")
    return (-mantissa if total < 0 else mantissa), exponent


def format_long_double(number: LongDouble) -> bytes:
    """Return a finite number with 17 decimals, trailing zeros dropped (`ld2string`, human form)."""
    mantissa, exponent = number
    scaled = abs(mantissa) * SCALE
    if exponent >= 0:
        scaled <<= exponent
    elif -exponent > scaled.bit_length() + 1:
        return b"0"
    else:
        half = 1 << (-exponent - 1)
        rest = scaled & ((1 << -exponent) - 1)
        scaled >>= -exponent
        if rest > half or (rest == half and scaled & 1):
            scaled += 1
    whole, fraction = divmod(scaled, SCALE)
    text = _print(whole)
    if fraction:
        text += (b".%017d" % fraction).rstrip(b"0")
    elif not whole:
        return b"0"
    return b"-" + text if mantissa < 0 else text


def _print(number: int) -> bytes:
    """Return the decimal digits of an integer that may exceed Python's limit for one conversion."""
    if number < LONG:
        return b"%d" % number
    high, low = divmod(number, LONG)
    return b"%d%04000d" % (high, low)


def add_long_double(a: bytes, b: bytes) -> bytes:
    """Return the sum of two texts as INCRBYFLOAT prints it.

    Raises ValueError when one is not a number, OverflowError when the sum is not finite.
    """
    x = parse_long_double(a)
    y = parse_long_double(b)
    if x is None or y is None:
        raise ValueError("value is not a valid float")
    return format_long_double(add(x, y))
