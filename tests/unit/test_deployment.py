"""What is in deploy/ and in docker-compose.yml, as far as that can be told without any engine."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from node.config import make_config
from sentrio import refuse_statement
from tests.containers import COMPOSE_FILES, VARIABLE, read_compose, read_settings, record
from tests.installation import ROOT

Service = dict[str, Any]
FOREIGN = ("prometheus", "grafana", "chaos")
files = pytest.mark.parametrize("names", COMPOSE_FILES, ids=" ".join)


def own_services(document: dict[str, Any]) -> Iterator[tuple[str, Service]]:
    """Those that run Sentrio."""
    for name, service in document["services"].items():
        if name not in FOREIGN:
            yield name, service


def environment_of(service: Service) -> dict[str, str]:
    return {name: str(value) for name, value in service.get("environment", {}).items()}


@files
def test_services(names: tuple[str, ...]) -> None:
    document = read_compose(names)
    assert "version" not in document  # neither is it needed, nor wanted any more
    services = document["services"]
    ports: set[str] = set()
    for name, service in services.items():
        assert "mem_limit" in service, name
        assert service["restart"] == ("on-failure" if name == "form" else "unless-stopped"), name
        assert set(service["networks"]) <= set(document["networks"]), name
        for volume in service.get("volumes", []):
            source, _, _ = volume.partition(":")
            if source.startswith("./"):
                assert (ROOT / source).exists(), volume
            elif not source.startswith("/"):
                assert source in document["volumes"], volume
        for port in service.get("ports", []):
            host, outside, inside = port.split(":")
            assert (host, outside) == ("127.0.0.1", inside)
            assert outside not in ports
            ports.add(outside)
        for other in service.get("depends_on", []):
            assert other in services
    for name, service in own_services(document):
        assert service["cap_drop"] == ["ALL"], name
        if name == "form":
            continue
        assert service["hostname"] == name
        assert service["healthcheck"]["test"] == ["CMD", "sentrio-container", "ready"]
        assert service["volumes"] == [f"{name}:/data"]


@files
def test_command_lines_are_those_of_a_node(names: tuple[str, ...]) -> None:
    document = read_compose(names, {"PASSWORD": 'a "b', "ANNOUNCE_IP": "10.0.0.1"})
    for name, service in own_services(document):
        words = service["command"].split()
        if words[0] != "node":
            continue
        variables = environment_of(service)
        wanted = variables.pop("NODES", "")  # nobody is to be looked for here
        arguments, text = record(words, variables)
        assert arguments[0] == "node"
        assert arguments[-1] == "-"
        config = make_config()
        config.examine = refuse_statement
        config.read_text(text.encode(), "the file and standard input")
        config.read_options([os.fsencode(word) for word in arguments[2:-1]])
        config.check()
        port = config.integer("port")
        assert any(f":{port}:{port}" in published for published in service["ports"])
        assert config.text("requirepass") == config.text("masterauth") == 'a "b'
        assert config.integer("metrics-port") == 9121
        assert config.values("metrics-bind") == ("*", "-::*")
        assert not config.boolean("protected-mode")
        assert config.boolean("appendonly")
        if wanted:
            assert config.boolean("cluster-enabled")
            assert config.boolean("cluster-replica-no-failover")
            assert config.text("cluster-announce-hostname") == name
            assert config.text("cluster-announce-ip") == "10.0.0.1"
            assert f"{name}:{port}" in wanted.split()
        elif name == "redis-1":
            assert config.values("replicaof") == ()
        else:
            assert config.values("replicaof") == ("redis-1", "6379")


@files
def test_nodes_are_the_same_everywhere(names: tuple[str, ...]) -> None:
    services = read_compose(names)["services"]
    nodes = {
        f"{name}:{service['command'].split()[-1]}"
        for name, service in services.items()
        if name.startswith("node-")
    }
    for service in services.values():
        if "NODES" in service.get("environment", {}):
            assert set(service["environment"]["NODES"].split()) == nodes


@files
def test_settings_are_in_the_env_file(names: tuple[str, ...]) -> None:
    """Each variable has one default, which is that of .env."""
    settings = read_settings()
    own = {"COMPOSE_PROJECT_NAME", "CHAOS_IMAGE", "CHAOS_SEED", "CHAOS_EVERY", "CHAOS_DOWN"}
    own |= {"PROMETHEUS_IMAGE", "GRAFANA_IMAGE"}
    for name in names:
        for match in VARIABLE.finditer((ROOT / name).read_text()):
            if match[1] not in own:
                assert settings[match[1]] == (match[2] or ""), match[0]


@files
def test_compose_accepts_it(names: tuple[str, ...]) -> None:
    """Compose itself, of version 1 or 2, where there is one."""
    tried = False
    for command in (["docker-compose"], ["docker", "compose"]):
        if shutil.which(command[0]) is None:
            continue
        version = subprocess.run([*command, "version"], capture_output=True, check=False)
        if version.returncode:
            continue
        tried = True
        options = [word for name in names for word in ("-f", name)]
        done = subprocess.run(
            [*command, "--env-file", ".env", *options, "config", "-q"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert not done.stderr.strip()
    if not tried:
        pytest.skip("needs Compose (Debian: apt-get install docker-compose)")


def test_the_image() -> None:
    """Signals arrive, nobody is root, and what is copied is there."""
    text = (ROOT / "deploy" / "Dockerfile").read_text()
    assert len(re.findall(r"^FROM \$\{BASE_IMAGE\}", text, re.MULTILINE)) == 2
    for line in ("USER sentrio", "VOLUME /data", "STOPSIGNAL SIGTERM", "ARG BASE_IMAGE="):
        assert f"\n{line}" in text
    assert 'ENTRYPOINT ["tini", "--", "sentrio-container"]' in text
    assert 'CMD ["sentrio-container", "ready"]' in text
    for path in set(re.findall(r"deploy/container/\S+", text)):
        assert (ROOT / path.rstrip("; \\")).is_file(), path
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for kept in ("node", "cluster", "sentinel", "sentrio.py", "setup.py", "README.md", "LICENSE"):
        assert f"!{kept}" in ignored


def test_scripts() -> None:
    """They are executable, and a shell of the smallest kind understands them."""
    for path in (
        "deploy/container/sentrio-container",
        "deploy/chaos/check-cluster",
        "deploy/chaos/kill-masters",
    ):
        assert (ROOT / path).stat().st_mode & stat.S_IXUSR, path
        subprocess.run(["sh", "-n", ROOT / path], check=True)
