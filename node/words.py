r"""Words of a line, as inline commands and redis.conf have them, and their quoting.

A line is a list of words separated by blanks. A word may be quoted: in `"double quotes"` the
escapes `\n \r \t \b \a \xHH` stand for bytes and a backslash before any other byte for that byte;
in `'single quotes'` only `\'` is an escape. A closing quote ends its word, so a blank or the end of
the line has to follow. The behaviour is that of `sdssplitargs` and `sdscatrepr` in Redis (sds.c).
"""

from typing import Final

_BLANKS: Final = b" \t\n\r\v\f"
_ENDS_WORD: Final = b" \t\n\r"
_QUOTED_ESCAPES: Final = {
    ord("n"): ord("\n"),
    ord("r"): ord("\r"),
    ord("t"): ord("\t"),
    ord("b"): ord("\b"),
    ord("a"): ord("\a"),
}
_WRITTEN_ESCAPES: Final = {
    ord("\\"): b"\\\\",
    ord('"'): b'\\"',
    ord("\n"): b"\\n",
    ord("\r"): b"\\r",
    ord("\t"): b"\\t",
    ord("\a"): b"\\a",
    ord("\b"): b"\\b",
}
_HEX_DIGITS: Final = b"0123456789abcdefABCDEF"


def split_words(line: bytes) -> list[bytes] | None:
    """The words of a line, or None where quotes are not balanced. A NUL byte ends the line."""
    end = line.find(b"\0")
    if end >= 0:
        line = line[:end]
    if not any(byte in line for byte in b"\"'\v\f"):
        return line.split()
    words: list[bytes] = []
    at = 0
    while True:
        while at < len(line) and line[at] in _BLANKS:
            at += 1
        if at == len(line):
            return words
        word = bytearray()
        at = _read_word(line, at, word)
        if at < 0:
            return None
        words.append(bytes(word))


def _read_word(line: bytes, at: int, word: bytearray) -> int:
    """Append the word at `at` to `word`; where it ended, or -1 for unbalanced quotes."""
    while at < len(line):
        byte = line[at]
        if byte in _ENDS_WORD:
            return at
        if byte == 0x22:
            return _read_double_quoted(line, at + 1, word)
        if byte == 0x27:
            return _read_single_quoted(line, at + 1, word)
        word.append(byte)
        at += 1
    return at


def _read_double_quoted(line: bytes, at: int, word: bytearray) -> int:
    while at < len(line):
        byte = line[at]
        if byte == 0x22:
            return _after_quote(line, at + 1)
        if byte == 0x5C and at + 1 < len(line):
            escaped = line[at + 1]
            digits = line[at + 2 : at + 4]
            if escaped == 0x78 and len(digits) == 2 and all(d in _HEX_DIGITS for d in digits):
                word.append(int(digits, 16))
                at += 4
                continue
            word.append(_QUOTED_ESCAPES.get(escaped, escaped))
            at += 2
            continue
        word.append(byte)
        at += 1
    return -1


def _read_single_quoted(line: bytes, at: int, word: bytearray) -> int:
    while at < len(line):
        byte = line[at]
        if byte == 0x27:
            return _after_quote(line, at + 1)
        if byte == 0x5C and line[at + 1 : at + 2] == b"'":
            word.append(0x27)
            at += 2
            continue
        word.append(byte)
        at += 1
    return -1


def _after_quote(line: bytes, at: int) -> int:
    if at < len(line) and line[at] not in _BLANKS:
        return -1
    return at


def quote(word: bytes) -> bytes:
    """The word in double quotes, printable ASCII, such that `split_words` gives it back."""
    out = bytearray(b'"')
    for byte in word:
        written = _WRITTEN_ESCAPES.get(byte)
        if written is not None:
            out += written
        elif 0x20 <= byte < 0x7F:
            out.append(byte)
        else:
            out += b"\\x%02x" % byte
    out += b'"'
    return bytes(out)
