"""The manifests for Kubernetes, as Kustomize builds them, against the published schemas."""

from __future__ import annotations

import copy
import shutil
import subprocess
from functools import cache
from string import Template
from typing import Any
from urllib.parse import urlsplit

import kubernetes_validate
import pytest
import yaml

from portable_core.settings import Role, Settings
from tests.deployment.test_documents import check_forward_command
from tests.support.deployment.documents import SAMPLE, find_settings_faults
from tests.support.deployment.guide import ROOT
from tests.support.missing import give_up

FOLDER = ROOT / "containers" / "kubernetes"
VERSIONS = ("1.27", "1.32")
PART = {"app.kubernetes.io/part-of": "webhook-sync"}
NODES: dict[str, Role] = {
    "webhook-slave-a": "slave",
    "webhook-slave-b": "slave",
    "webhook-master": "master",
}
Parts = dict[tuple[str, str], Any]


@cache
def build(overlay: str) -> str:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        give_up("no kubectl, whose `kustomize` builds the manifests")
    done = subprocess.run(
        [kubectl, "kustomize", FOLDER / overlay], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def read(overlay: str = "base") -> Parts:
    """Return the manifests by kind and name."""
    file = FOLDER / overlay
    text = file.read_text() if file.is_file() else build(overlay)
    parts = list(yaml.safe_load_all(Template(text).substitute(SAMPLE)))
    named = {(part["kind"], part["metadata"]["name"]): part for part in parts}
    assert len(named) == len(parts)
    return named


def is_valid(part: Any, version: str) -> bool:
    try:
        kubernetes_validate.validate(part, version, strict=True)
    except kubernetes_validate.ValidationError:
        return False
    return True


@pytest.mark.parametrize("version", VERSIONS)
def test_the_manifests_are_what_the_published_schemas_describe(version: str) -> None:
    parts = [*read().values(), *read("forward.yaml").values()]
    assert len(parts) == 10
    assert [part["kind"] for part in parts if not is_valid(part, version)] == []
    for part in parts:
        for name in part["spec"]:
            wrong = copy.deepcopy(part)
            wrong["spec"][f"{name}x"] = wrong["spec"].pop(name)
            assert not is_valid(wrong, version), (part["kind"], name)


@pytest.mark.parametrize("name", NODES)
def test_the_parts_of_a_node_belong_together(name: str) -> None:
    parts, role = read(), NODES[name]
    service, workload = parts["Service", name], parts["StatefulSet", name]
    [container] = read_pod(workload)["containers"]
    labels = workload["spec"]["template"]["metadata"]["labels"]
    selector = service["spec"]["selector"]
    assert selector == workload["spec"]["selector"]["matchLabels"]
    selected = [
        other
        for (kind, other), part in parts.items()
        if kind == "StatefulSet"
        and selector.items() <= part["spec"]["template"]["metadata"]["labels"].items()
    ]
    assert selected == [name]
    assert {**labels, **selector, **PART} == labels
    assert workload["spec"]["serviceName"] == name
    assert service["spec"]["ports"][0]["targetPort"] == container["ports"][0]["containerPort"]
    assert workload["spec"]["replicas"] == 1
    claims = [claim["metadata"]["name"] for claim in workload["spec"]["volumeClaimTemplates"]]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    wanted = {"data": "/data", "backup": "/backup"} if role == "master" else {"data": "/data"}
    assert set(claims) == set(mounts)
    assert mounts == wanted
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    secrets = {"SYNC_TOKENS": "secret", "CONSOLE_TOKEN": "c" * 16 if role == "master" else ""}
    assert list(find_settings_faults(role, environment, secrets)) == []
    settings = Settings.from_env(role, {**environment, **secrets})
    assert (settings.retention_bytes is not None) == (role == "slave")
    assert (settings.sync_every_ms == 60_000) == (role == "master")
    for slave in settings.slaves:
        assert is_service(parts, slave.url, slave.name)
    assert {slave.name for slave in settings.slaves} == (
        {node for node in NODES if NODES[node] == "slave"} if role == "master" else set()
    )
    for probe in ("startupProbe", "readinessProbe"):
        assert container[probe]["httpGet"] == {"path": "/health", "port": 8080}
    assert container["image"] == f"{SAMPLE['IMAGES']}/{role}:{SAMPLE['TAG']}"
    assert container["envFrom"] == [{"secretRef": {"name": f"webhook-{role}"}}]


def test_one_node_stops_at_a_time_and_none_shares_a_machine_with_another() -> None:
    parts = read()
    budget = parts["PodDisruptionBudget", "webhook-sync"]["spec"]
    assert budget == {"maxUnavailable": 1, "selector": {"matchLabels": PART}}
    for name in NODES:
        affinity = read_pod(parts["StatefulSet", name])["affinity"]["podAntiAffinity"]
        terms = [
            term["podAffinityTerm"]
            for term in affinity["preferredDuringSchedulingIgnoredDuringExecution"]
        ]
        assert {term["topologyKey"] for term in terms} == {
            "kubernetes.io/hostname",
            "topology.kubernetes.io/zone",
        }
        assert all(term["labelSelector"] == {"matchLabels": PART} for term in terms)


def test_a_slave_connects_to_nothing_and_the_master_to_slaves() -> None:
    parts = read()
    port = [{"ports": [{"port": 8080}]}]
    policies = {name: part["spec"] for (kind, name), part in parts.items() if "Network" in kind}
    for name, role in NODES.items():
        labels = parts["StatefulSet", name]["spec"]["template"]["metadata"]["labels"]
        policy = policies[f"webhook-{role}"]
        assert policy["podSelector"]["matchLabels"].items() <= labels.items()
        assert policy["policyTypes"] == ["Ingress", "Egress"]
        assert policy["ingress"] == port
    assert "egress" not in policies["webhook-slave"]
    to_slaves, names = policies["webhook-master"]["egress"]
    assert to_slaves["to"] == [{"podSelector": policies["webhook-slave"]["podSelector"]}]
    assert to_slaves["ports"] == [{"port": 8080}]
    assert {entry["port"] for entry in names["ports"]} == {53}


def test_prometheus_scrapes_every_node_under_the_name_of_the_alerts() -> None:
    parts = read("monitoring")
    monitor = parts.pop(("PodMonitor", "webhook-sync"))
    assert parts == read()
    spec = monitor["spec"]
    assert spec["selector"] == {"matchLabels": PART}
    [endpoint] = spec["podMetricsEndpoints"]
    assert (endpoint["targetPort"], endpoint["path"]) == (8080, "/metrics")
    secret = endpoint["authorization"]["credentials"]
    assert (
        f"generic {secret['name']} --from-literal={secret['key']}="
        in (ROOT / "containers/README.md").read_text()
    )
    job = PART[spec["jobLabel"]]
    alerts = (ROOT / "containers/monitoring/alerts.yml").read_text()
    assert f'up{{job="{job}"}}' in alerts


def test_forward_connects_to_the_master() -> None:
    [(name, part)] = read("forward.yaml").items()
    assert name == ("StatefulSet", "webhook-forward")
    assert part["spec"]["replicas"] == 1
    assert part["spec"]["selector"]["matchLabels"] == part["spec"]["template"]["metadata"]["labels"]
    [container] = read_pod(part)["containers"]
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    check_forward_command(container["command"], environment)
    assert is_service(read(), environment["MASTER_URL"], "webhook-master")
    assert environment["FORWARD_URL"] == SAMPLE["FORWARD_URL"]
    assert container["image"] == f"{SAMPLE['IMAGES']}/master:{SAMPLE['TAG']}"
    claims = [claim["metadata"]["name"] for claim in part["spec"]["volumeClaimTemplates"]]
    assert container["volumeMounts"] == [{"name": claims[0], "mountPath": "/data"}]


def test_pods_are_confined() -> None:
    parts = {**read(), **read("forward.yaml")}
    pods = [read_pod(part) for (kind, _), part in parts.items() if kind == "StatefulSet"]
    assert len(pods) == 4
    for pod in pods:
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        rights = pod["securityContext"]
        assert rights["runAsNonRoot"] is True
        assert rights["seccompProfile"] == {"type": "RuntimeDefault"}
        assert rights["runAsUser"] == rights["runAsGroup"] == rights["fsGroup"] == 65532
        assert rights["fsGroupChangePolicy"] == "OnRootMismatch"
        [container] = pod["containers"]
        assert container["securityContext"] == {
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"]


def read_pod(part: Any) -> Any:
    return part["spec"]["template"]["spec"]


def is_service(parts: Parts, url: str, name: str) -> bool:
    """Return whether the address is that of the Service with this name, on a port that it has."""
    address = urlsplit(url)
    ports = [port["port"] for port in parts["Service", name]["spec"]["ports"]]
    return address.hostname == name and (address.port or 80) in ports
