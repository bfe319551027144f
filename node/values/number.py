"""Numbers as Redis reads and prints them: 64-bit integers and doubles.

Both directions are stricter than Python: a number that Redis refuses must be refused, and a double
must print as the server of version 7.2 prints it.  See `long_double` for INCRBYFLOAT's arithmetic.
"""

import re
from math import inf, nan
from typing import Final

from mypy_extensions import i64

MIN_INTEGER: Final = -(1 << 63)
MAX_INTEGER: Final = (1 << 63) - 1


_GROUPS: Final = [b"%d" % number for number in range(1000)]
_PADDED: Final = [b"%03d" % number for number in range(1000)]


def parse_integer(text: bytes) -> int | None:
    """Return the 64-bit signed integer a text spells, or None.

    As strict as `string2ll`: digits without sign, space, leading zeros or underscores, but for a
    minus sign before a number that is not zero.
    """
    if not is_integer(text):
        return None
    length: i64 = len(text)
    if length > 18:
        return int(text)
    at: i64 = 1 if text[0] == 45 else 0
    number: i64 = 0
    while at < length:
        number = number * 10 + text[at] - 48
        at += 1
    return -number if text[0] == 45 else number


def is_integer(text: bytes) -> bool:
    """Tell whether `parse_integer` accepts a text."""
    length: i64 = len(text)
    if length == 0 or length > 20:
        return False
    at: i64 = 0
    first: i64 = text[0]
    if first == 45:
        if length == 1:
            return False
        at = 1
        first = text[1]
    if first <= 48 or first > 57:
        return first == 48 and length == 1
    while at < length:
        digit: i64 = text[at]
        if digit < 48 or digit > 57:
            return False
        at += 1
    return length < 19 or MIN_INTEGER <= int(text) <= MAX_INTEGER


def format_integer(number: i64) -> bytes:
    """Return the text of a number of 64 bits, several times as fast as by formatting."""
    if 0 <= number < 1000:
        return _GROUPS[number]
    if 0 <= number < 1_000_000:
        return _GROUPS[number // 1000] + _PADDED[number % 1000]
    if 0 <= number < 1_000_000_000:
        thousands: i64 = number // 1000
        head = _GROUPS[thousands // 1000] + _PADDED[thousands % 1000]
        return head + _PADDED[number % 1000]
    return b"%d" % number


_POWERS: Final = [10.0**places for places in range(16)]


def _parse_decimal(text: bytes) -> float:
    """Return the double that a plain decimal of at most 15 digits spells, NaN for all else.

    Both its digits and the power of ten to divide them by are exact as doubles, so that the one
    division rounds as the best parser would.
    """
    length: i64 = len(text)
    if length == 0 or length > 17:
        return nan
    at: i64 = 1 if text[0] == 45 else 0
    number: i64 = 0
    digits: i64 = 0
    before: i64 = -1  # digits before the point
    while at < length:
        byte: i64 = text[at]
        if 48 <= byte <= 57:
            number = number * 10 + byte - 48
            digits += 1
        elif byte == 46 and before < 0:
            before = digits
        else:
            return nan
        at += 1
    if digits == 0 or digits > 15:
        return nan
    result = float(number)
    if before >= 0:
        result /= _POWERS[digits - before]
    return -result if text[0] == 45 else result


def to_double(text: bytes) -> float:
    """Return the double that a text spells, as ``float``, of which ValueError comes, too."""
    number = _parse_decimal(text)
    return number if number == number else float(text)


HEX_FLOAT: Final = re.compile(
    rb"[+-]?0[xX](?:[0-9a-fA-F]+\.?[0-9a-fA-F]*|\.[0-9a-fA-F]+)(?:[pP][+-]?[0-9]+)?"
)
"""What strtod reads as hexadecimal; `float.fromhex` alone would take spaces and a missing 0x."""


def parse_float(text: bytes) -> float | None:
    """Return the double that strtod reads from the whole text, or None.

    Takes decimal and hexadecimal notation and infinities in any case.  Refuses NaN, an empty text,
    spaces around the number, a finite number too large for a double, and one other than zero that
    is too small (`getDoubleFromObject`).
    """
    number = _parse_decimal(text)
    if number == number:
        return number
    try:
        number = float(text)
    except ValueError:
        return _parse_hex_float(text)
    if text[0] <= 32 or text[-1] <= 32 or b"_" in text or number != number:
        return None
    if number == 0.0:
        # Underflow: the mantissa says something other than zero.
        mantissa = text.lower().partition(b"e")[0]
        if mantissa.strip(b"+-0."):
            return None
    elif (number == inf or number == -inf) and b"n" not in text and b"N" not in text:
        return None
    return number


def _parse_hex_float(text: bytes) -> float | None:
    if HEX_FLOAT.fullmatch(text) is None:
        return None
    try:
        number = float.fromhex(text.decode("ascii"))
    except OverflowError:
        return None
    if number == 0.0 and text.lower().partition(b"p")[0].strip(b"+-0x."):
        return None
    return number


LEADING_SPACE: Final = b" \t\n\v\f\r"


def parse_bound(text: bytes) -> tuple[float, bool] | None:
    """Return the score and whether it is exclusive, for one end of a range of scores, or None.

    The text is a number after an optional "(".  As in Redis, which leaves these to strtod alone,
    white space may lead, nothing at all is zero, and what no double can hold is infinite or zero.
    """
    exclusive = text[:1] == b"("
    if exclusive:
        text = text[1:]
    text = text.partition(b"\0")[0]
    if not text:
        return 0.0, exclusive
    text = text.lstrip(LEADING_SPACE)
    if not text or text[-1] <= 32 or b"_" in text:
        return None
    try:
        number = float(text)
    except ValueError:
        if HEX_FLOAT.fullmatch(text) is None:
            return None
        parsed = _parse_hex_float(text)
        if parsed is None:
            huge = b"p-" not in text.lower()
            parsed = (-inf if huge else -0.0) if text[:1] == b"-" else (inf if huge else 0.0)
        number = parsed
    if number != number:
        return None
    return number, exclusive


WHOLE: Final = 4611686018427387904.0
"""Up to 2**62 whole numbers print all their digits."""


def format_double(number: float) -> bytes:
    """Return a double as Redis 7.2 prints it: the shortest digits that read back the same.

    Whole numbers up to 2**62 print as integers.  For others the choice between plain and scientific
    notation is that of the fpconv library, which differs from C's and from Python's: 1e+20, 1.5e-7,
    but 0.000001 and 123456789012345680000.  (fpconv's Grisu2 now and then gives a digit more than
    needed; here the digits are always the fewest.)
    """
    if -WHOLE <= number <= WHOLE:
        whole = int(number)
        if whole == number:
            if whole == 0 and str(number)[0] == "-":
                return b"-0"
            return b"%d" % whole
    elif number != number:
        return b"nan"
    elif number in (inf, -inf):
        return b"inf" if number > 0 else b"-inf"
    text = repr(number)
    if "e" not in text:
        # Below 1e16, so there is a fraction; a plain number has at most six places after the
        # point, or an order of magnitude below four.
        if len(text) - text.index(".") <= 7 or 1e-3 <= number < 1e4 or 1e-3 <= -number < 1e4:
            return text.encode("ascii")
    return _format_digits(text)


def _format_digits(text: str) -> bytes:
    """Return the number that `repr` spells, in fpconv's notation."""
    sign = ""
    if text[0] == "-":
        sign = "-"
        text = text[1:]
    mantissa, _, exponent = text.partition("e")
    whole, _, fraction = mantissa.partition(".")
    power = int(exponent or "0") - len(fraction)
    digits = (whole + fraction).lstrip("0")
    stripped = digits.rstrip("0")
    power += len(digits) - len(stripped)
    digits = stripped
    count = len(digits)
    magnitude = power + count - 1
    if power >= 0 and magnitude < count + 7:
        plain = digits + "0" * power
    elif power < 0 and (power > -7 or abs(magnitude) < 4):
        point = count + power
        if point <= 0:
            plain = "0." + "0" * -point + digits
        else:
            plain = digits[:point] + "." + digits[point:]
    else:
        plain = digits[0]
        if count > 1:
            plain += "." + digits[1:]
        plain += f"e{magnitude:+d}"
    return (sign + plain).encode("ascii")


def format_exact(number: float) -> bytes:
    """Return a double in C's "%.17g", as digests and older versions print scores."""
    return b"%.17g" % number
