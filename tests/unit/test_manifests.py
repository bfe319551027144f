"""Manifests of Kubernetes and units of systemd: what they name is there, and fits together."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from node.config import make_config
from tests.containers import record
from tests.installation import ROOT

Object = dict[str, Any]
FOLDER: Final = ROOT / "deploy" / "kubernetes"
UNITS: Final = ROOT / "deploy" / "systemd"
VERSIONS: Final = {
    **dict.fromkeys(("ConfigMap", "Secret", "Service"), "v1"),
    "PodDisruptionBudget": "policy/v1",
    "StatefulSet": "apps/v1",
    "Job": "batch/v1",
}
NAME: Final = "app.kubernetes.io/name"
# What a manifest of ours may say of what kubectl cannot check without a server.
FIELDS: Final = {
    "Service": {"clusterIP", "publishNotReadyAddresses", "selector", "ports"},
    "PodDisruptionBudget": {"minAvailable", "maxUnavailable", "selector"},
}


def objects() -> list[Object]:
    """All objects of the manifests."""
    names = yaml.safe_load((FOLDER / "kustomization.yml").read_text())["resources"]
    assert {path.name for path in FOLDER.iterdir()} == {"kustomization.yml", *names}
    return [item for name in names for item in yaml.safe_load_all((FOLDER / name).read_text())]


def of_kind(kind: str) -> dict[str, Object]:
    return {item["metadata"]["name"]: item for item in objects() if item["kind"] == kind}


def workloads() -> Iterator[tuple[Object, Object]]:
    """StatefulSets and jobs, and the pods that they make."""
    for item in objects():
        if "template" in item.get("spec", {}):
            yield item, item["spec"]["template"]


def labels(item: Object) -> Object:
    found: Object = item["metadata"]["labels"]
    return found


def test_objects() -> None:
    seen = set()
    for item in objects():
        kind, name = item["kind"], item["metadata"]["name"]
        assert item["apiVersion"] == VERSIONS[kind]
        assert (kind, name) not in seen
        seen.add((kind, name))
        assert labels(item)[NAME]
        assert set(item.get("spec", {})) <= FIELDS.get(kind, set(item.get("spec", {}))), name


def test_selectors_find_their_pods() -> None:
    pods = {labels(pod)[NAME]: pod for _, pod in workloads()}
    for workload, pod in workloads():
        if workload["kind"] == "StatefulSet":
            assert workload["spec"]["selector"]["matchLabels"] == labels(pod)
            service = of_kind("Service")[workload["spec"]["serviceName"]]
            assert service["spec"]["clusterIP"] == "None"
            # Who is not ready must be found by name: all are unready before the cluster is formed.
            assert service["spec"]["publishNotReadyAddresses"] is True
            assert workload["spec"]["podManagementPolicy"] == "Parallel"
            rules = json.dumps(pod["spec"]["affinity"]["podAntiAffinity"])
            assert json.dumps(labels(pod)) in rules
            budget = of_kind("PodDisruptionBudget")[workload["metadata"]["name"]]
            assert budget["spec"]["selector"]["matchLabels"] == labels(pod)
    for service in of_kind("Service").values():
        container = pods[service["spec"]["selector"][NAME]]["spec"]["containers"][0]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        for port in service["spec"]["ports"]:
            assert ports[port["targetPort"]] == port["port"]


def test_pods() -> None:
    for workload, pod in workloads():
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["automountServiceAccountToken"] is False
        claims = workload["spec"].get("volumeClaimTemplates", [])
        volumes = {volume["name"] for volume in spec["volumes"]}
        volumes |= {claim["metadata"]["name"] for claim in claims}
        (container,) = spec["containers"]
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert set(mounts) == volumes
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"]
        for source in container["envFrom"]:
            assert source["configMapRef"]["name"] in of_kind("ConfigMap")
        for variable in container["env"]:
            secret = variable.get("valueFrom", {}).get("secretKeyRef")
            if secret is not None:
                assert secret["key"] in of_kind("Secret")[secret["name"]]["stringData"]
        if workload["kind"] == "StatefulSet":
            assert mounts["data"] == "/data"
            paths = {
                name: container[name]["httpGet"]["path"]
                for name in ("startupProbe", "livenessProbe", "readinessProbe")
            }
            assert list(paths.values()) == ["/healthz", "/healthz", "/readyz"]


def test_nodes_are_the_pods() -> None:
    for name, item in of_kind("StatefulSet").items():
        settings = of_kind("ConfigMap")[name]["data"]
        if "NODES" in settings:
            expected = [f"{name}-{n}.{name}:6379" for n in range(item["spec"]["replicas"])]
            assert settings["NODES"].split() == expected
            each = int(settings["REPLICAS"]) + 1
            assert item["spec"]["replicas"] % each == 0
            assert item["spec"]["replicas"] // each >= 3


def test_command_line_is_that_of_a_node() -> None:
    container = of_kind("StatefulSet")["sentrio"]["spec"]["template"]["spec"]["containers"][0]
    settings = dict(of_kind("ConfigMap")["sentrio"]["data"])
    settings["NODES"] = ""
    settings |= {"NODE_NAME": "sentrio-0.sentrio", "PASSWORD": ""}
    arguments, text = record(container["args"], settings)
    config = make_config()
    config.read_text(text.encode(), "the file and standard input")
    config.read_options([os.fsencode(word) for word in arguments[2:-1]])
    config.check()
    assert config.integer("port") == 6379
    assert config.text("cluster-announce-hostname") == "sentrio-0.sentrio"


def require(name: str) -> str:
    """A program's path; without it the test is skipped."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"needs {name}")
    return path


def contains(whole: Any, part: Any) -> bool:
    """Whether everything of ``part`` is there."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(
            name in whole and contains(whole[name], value) for name, value in part.items()
        )
    if isinstance(part, list):
        return (
            isinstance(whole, list)
            and len(whole) == len(part)
            and all(contains(a, b) for a, b in zip(whole, part, strict=True))
        )
    return bool(whole == part)


def test_kubernetes_knows_every_field(tmp_path: Path) -> None:
    """Kubectl reads a workload by its types, without any server: what it does not know is lost."""
    kubectl = require("kubectl")
    for number, (item, _) in enumerate(workloads()):
        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps(item))
        done = subprocess.run(
            [kubectl, "set", "image", "--local", "-f", path, "*=other", "-o", "json"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        item["spec"]["template"]["spec"]["containers"][0]["image"] = "other"
        assert contains(json.loads(done.stdout), item), item["metadata"]["name"]


def test_kustomization_is_built() -> None:
    done = subprocess.run(
        [require("kubectl"), "kustomize", FOLDER], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(list(yaml.safe_load_all(done.stdout))) == len(objects())


def commands() -> Iterator[tuple[str, list[str]]]:
    """What the units start."""
    for path in sorted(UNITS.iterdir()):
        (line,) = [line for line in path.read_text().splitlines() if line.startswith("ExecStart=")]
        yield path.name, shlex.split(line.removeprefix("ExecStart="))


def test_units_start_what_notifies_systemd() -> None:
    for name, (program, role, path, *options) in commands():
        assert program == "/opt/sentrio/bin/sentrio"
        assert path.endswith(".conf")
        assert f"sentrio{'-sentinel' if role == 'sentinel' else '@'}.service" == name
        config = make_config()
        # The folder is made by systemd.
        words = [word.replace("/var/lib/sentrio/%i", "/tmp") for word in options]
        config.read_options([os.fsencode(word) for word in words])
        assert config.text("supervised") == "systemd"
        assert not config.boolean("daemonize")
        text = (UNITS / name).read_text()
        for line in ("Type=notify", "Restart=always", "NoNewPrivileges=yes"):
            assert f"\n{line}\n" in text


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    analyze = require("systemd-analyze")
    names = []
    for path in UNITS.iterdir():
        name = path.name.replace("@", "@6379")
        # The program need not be installed where this is checked.
        text = path.read_text().replace("/opt/sentrio/bin/sentrio", "/bin/true")
        (tmp_path / path.name).write_text(text)
        (tmp_path / name).write_text(text)
        names.append(name)
    done = subprocess.run(
        [analyze, "verify", *(f"./{name}" for name in names)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # It also speaks of other units of the machine.
    assert "sentrio" not in done.stderr, done.stderr
