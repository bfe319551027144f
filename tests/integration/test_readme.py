"""The README's tour is what a user sees."""

from __future__ import annotations

import re
import subprocess

from tests.conftest import require_program
from tests.installation import ROOT
from tests.servers import Server

PROMPT = re.compile(r"^127\.0\.0\.1:6379(?:\[\d+\])?(?:\(TX\))?> ", re.MULTILINE)


def test_tour(node: Server) -> None:
    blocks = re.findall(r"```console\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    sessions = [block for block in blocks if PROMPT.search(block)]
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
