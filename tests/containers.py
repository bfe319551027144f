"""What containers run, as processes of this machine: the same scripts, without containers."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from tests.formations import ClusterNode
from tests.installation import ROOT
from tests.servers import environment, free_port

CONTAINER: Final = ROOT / "deploy" / "container"
VARIABLE: Final = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")
COMPOSE_FILES: Final = (
    ("docker-compose.yml",),
    ("docker-compose.yml", "deploy/compose-bigger.yml"),
    ("docker-compose.yml", "deploy/compose-chaos.yml"),
    ("docker-compose.yml", "deploy/compose-monitoring.yml"),
    ("deploy/compose-sentinel.yml",),
)


def read_settings() -> dict[str, str]:
    """The lines of .env."""
    lines = (ROOT / ".env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def read_compose(names: Sequence[str], settings: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The services, networks and volumes of compose files laid over each other.

    As far as ours need: mappings are merged, everything else is replaced.
    """
    found: dict[str, Any] = {}
    for name in names:
        text = VARIABLE.sub(
            lambda match: (settings or {}).get(match[1]) or match[2] or "",
            (ROOT / name).read_text(),
        )
        found = _merge(found, yaml.safe_load(text))
    return found


def _merge(below: Any, above: Any) -> Any:
    if isinstance(below, dict) and isinstance(above, dict):
        merged = dict(below)
        for key, value in above.items():
            merged[key] = _merge(below[key], value) if key in below else value
        return merged
    return above


class Programs:
    """A folder with the programs that a container finds in its path.

    `sentrio` is the program under test, or (``recorded``) writes down what it was called with.
    """

    def __init__(self, recorded: bool = False) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="programs-")
        folder = Path(self._folder.name)
        python = shlex.quote(sys.executable)
        self._add("python3", f'exec {python} "$@"')
        if recorded:
            program = "import json, sys; print(json.dumps([sys.argv[1:], sys.stdin.read()]))"
            self._add("sentrio", f'exec {python} -c {shlex.quote(program)} "$@"')
        else:
            self._add("sentrio", f'exec {python} -m sentrio "$@"')
        self.path = f"{folder}{os.pathsep}{os.environ['PATH']}"

    def _add(self, name: str, command: str) -> None:
        path = Path(self._folder.name) / name
        path.write_text(f"#!/bin/sh\n{command}\n")
        path.chmod(0o755)

    def environment(self, **variables: str) -> dict[str, str]:
        """The environment of a container."""
        base = {**environment(), "PATH": self.path, "SENTRIO_SHARE": str(CONTAINER)}
        base["PYTHONPATH"] = os.pathsep.join([str(ROOT), base.get("PYTHONPATH", "")])
        return {**base, **variables}

    def run(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a container to its end."""
        return subprocess.run(
            [str(CONTAINER / "sentrio-container"), *words],
            env=self.environment(**variables),
            capture_output=True,
            text=True,
            timeout=170,
            check=False,
            stdin=subprocess.DEVNULL,
        )


def record(words: Sequence[str], variables: Mapping[str, str]) -> tuple[list[str], str]:
    """What a container would start: the arguments of `sentrio`, and its standard input."""
    with tempfile.TemporaryDirectory() as data:
        done = Programs(recorded=True).run(
            *words, **{**{name: str(value) for name, value in variables.items()}, "DATA": data}
        )
        assert done.returncode == 0, done.stderr
        arguments, given = json.loads(done.stdout)
        config = Path(arguments[1]).read_text()
    # That folder has gone by now.
    return [word.replace(data, tempfile.gettempdir()) for word in arguments], f"{config}{given}"


class ContainerNode(ClusterNode):
    """A node of a cluster, started as in a container; ``host`` may change between two starts."""

    def __init__(self, programs: Programs, index: int) -> None:
        super().__init__("ours", [], name=f"container-{index}")
        self.programs = programs
        self.host = "127.0.0.1"
        self.metrics_port = free_port()
        self.nodes = ""

    @property
    def address(self) -> tuple[str, int]:
        return (self.host, self.port)

    @property
    def text(self) -> str:
        """As NODES has it."""
        return f"{self.host}:{self.port}"

    def _launch(self) -> None:
        words = ["--port", str(self.port), "--bind", self.host, "--bind-source-addr", self.host]
        self._spawn(
            [str(CONTAINER / "sentrio-container"), "node", *words],
            self.programs.environment(
                DATA=str(self.folder),
                METRICS_PORT=str(self.metrics_port),
                METRICS_BIND="127.0.0.1",
                OPTIONS=f"--appendonly yes {' '.join(self.directives)}",
                NODES=self.nodes,
                NODE_NAME=self.host,
                FORM_LIMIT="100",
            ),
        )
