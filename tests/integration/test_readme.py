"""The README's tour is what a user sees."""

from __future__ import annotations

import ast
import re
import subprocess

import redis

from tests.conftest import require_program
from tests.installation import ROOT
from tests.servers import Server

PROMPT = re.compile(r"^127\.0\.0\.1:6379(?:\[\d+\])?(?:\(TX\))?> ", re.MULTILINE)


def find_blocks(kind: str) -> list[str]:
    """What the README has of that kind."""
    return re.findall(rf"```{kind}\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def test_tour(node: Server) -> None:
    sessions = [block for block in find_blocks("console") if PROMPT.search(block)]
    assert sessions
    for session in sessions:
        before, *exchanges = PROMPT.split(session)
        assert before.startswith("$ redis-cli"), before
        requests, replies = zip(
            *[exchange.split("\n", maxsplit=1) for exchange in exchanges], strict=True
        )
        options = before.split()[2:]
        done = subprocess.run(
            [require_program("redis-cli"), "-p", str(node.port), "--no-raw", *options],
            input="\n".join(requests) + "\n",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        # redis-cli ends an error with an empty line when it is not interactive.
        assert done.stdout.replace("\n\n", "\n") == "".join(replies), done.stdout
    check_program(node)


def check_program(node: Server) -> None:
    """What it says of redis-py, after that."""
    (program,) = find_blocks("python")
    setup, _, calls = program.partition("\n\n")
    assert setup == "import redis"
    start, *lines = calls.splitlines()
    assert start == "db = redis.Redis(decode_responses=True)"
    with redis.Redis(port=node.port, decode_responses=True) as db:
        for line in lines:
            call, _, reply = line.partition("#")
            # Its own text, out of the README.
            assert eval(call, {"db": db}) == ast.literal_eval(reply.strip()), line
