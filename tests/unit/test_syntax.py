"""The notation of arguments: what it says, what it refuses, and back again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.syntax import Argument, parse, render


def outline(arguments: list[Argument]) -> list[object]:
    """Name, type, token and flags of each argument, with what it holds."""
    found: list[object] = []
    for argument in arguments:
        line = f"{argument.name}:{argument.kind}"
        if argument.token:
            line += f" token={argument.token}"
        if argument.key_spec >= 0:
            line += f" key={argument.key_spec}"
        if argument.since:
            line += f" since={argument.since}"
        for flag in ("optional", "multiple", "multiple_token"):
            if getattr(argument, flag):
                line += f" {flag}"
        found.append(line if not argument.arguments else [line, *outline(argument.arguments)])
    return found


@pytest.mark.parametrize(
    ("syntax", "keys", "expected"),
    [
        ("", 0, []),
        ("key", 1, ["key:key key=0"]),
        (
            "key value [NX | XX] [EX seconds | KEEPTTL]",
            1,
            [
                "key:key key=0",
                "value:string",
                [
                    "condition:oneof optional",
                    "nx:pure-token token=NX",
                    "xx:pure-token token=XX",
                ],
                [
                    "seconds-or-keepttl:oneof optional",
                    "seconds:integer token=EX",
                    "keepttl:pure-token token=KEEPTTL",
                ],
            ],
        ),
        (
            "key score member [score member ...]",
            1,
            ["key:key key=0", ["data:block multiple", "score:double", "member:string"]],
        ),
        (
            "numkeys key [key ...] [WEIGHTS weight [weight ...]]",
            1,
            [
                "numkeys:integer",
                "key:key key=0 multiple",
                "weight:integer token=WEIGHTS optional multiple",
            ],
        ),
        (
            "[LIMIT offset count] [COUNT count [ANY]]",
            0,
            [
                ["limit:block token=LIMIT optional", "offset:integer", "count:integer"],
                [
                    "count-block:block optional",
                    "count:integer token=COUNT",
                    "any:pure-token token=ANY optional",
                ],
            ],
        ),
        (
            "[BY pattern] [GET pattern [GET pattern ...]]",
            0,
            [
                "by-pattern:pattern token=BY optional",
                "get-pattern:pattern token=GET optional multiple multiple_token",
            ],
        ),
        (
            "source destination <LEFT | RIGHT> <LEFT | RIGHT>",
            2,
            [
                "source:key key=0",
                "destination:key key=1",
                ["where:oneof", "left:pure-token token=LEFT", "right:pure-token token=RIGHT"],
                ["where2:oneof", "left:pure-token token=LEFT", "right:pure-token token=RIGHT"],
            ],
        ),
        (
            "key1 key2",
            1,
            ["key1:key key=0", "key2:key key=0"],
        ),
        (
            "increment:double match=<ON | OFF> [NOW]@7.0.0 word@6.2.0 channel:key#3",
            1,
            [
                "increment:double",
                ["match:oneof", "on:pure-token token=ON", "off:pure-token token=OFF"],
                "now:pure-token token=NOW since=7.0.0 optional",
                "word:string since=6.2.0",
                "channel:key key=3",
            ],
        ),
        (
            '<ip:port | "" | [= | ~]>',
            0,
            [
                [
                    "ip-port-or-empty-string:oneof",
                    "ip-port:string",
                    'empty-string:pure-token token=""',
                    [
                        "operator:oneof optional",
                        "equal:pure-token token==",
                        "approximately:pure-token token=~",
                    ],
                ]
            ],
        ),
    ],
)
def test_tree(syntax: str, keys: int, expected: list[object]) -> None:
    assert outline(parse(syntax, keys)) == expected


def test_display_text_keeps_what_a_name_must_not_have() -> None:
    address, pattern = parse("ip:port [BY pattern] [GET pattern]")[:2]
    assert (address.name, address.display) == ("ip-port", "ip:port")
    assert (pattern.name, pattern.display) == ("by-pattern", "pattern")


@pytest.mark.parametrize(
    "syntax",
    [
        "[a",
        "a]",
        "<a | >",
        "a | b",
        "[]",
        "a [b ...]",
        "label=",
        "a @6.2.0 b",
        "[a | b ...]",
        "a ...",
        "a [... a]",
    ],
)
def test_malformed(syntax: str) -> None:
    with pytest.raises(ValueError, match="in "):
        parse(syntax)


WORDS = st.sampled_from(["key", "value", "count", "member", "pattern"])
TOKENS = st.sampled_from(["NX", "GET", "LIMIT", "STORE"])


def _groups(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.builds("[{} | {}]".format, inner, inner),
        st.builds("{} <{} | {}>".format, TOKENS, inner, inner),
        st.builds("[{} {}]".format, TOKENS, WORDS),
        WORDS.map(lambda word: f"{word} [{word} ...]"),
        st.builds("[{0} {1} [{0} {1} ...]]".format, TOKENS, WORDS),
    )


SYNTAXES = st.lists(st.recursive(st.one_of(WORDS, TOKENS), _groups, max_leaves=6), max_size=4)


@given(parts=SYNTAXES)
def test_rendering_is_a_fixed_point(parts: list[str]) -> None:
    arguments = parse(" ".join(parts), 1)
    text = render(arguments)
    assert render(parse(text, 1)) == text
