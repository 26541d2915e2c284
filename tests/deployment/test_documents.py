"""The YAML files of the deployments against Google's own schemas, and every typo in them caught."""

from __future__ import annotations

import configparser
import copy
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from portable_core.cli.forward import forward_command
from portable_core.cli.main import main
from portable_core.settings import Role, Settings
from tests.support.deployment.documents import (
    SAMPLE,
    find_app_faults,
    find_build_faults,
    find_service_faults,
    find_settings_faults,
    read,
)
from tests.support.deployment.guide import GUIDE, ROOT
from tests.support.missing import give_up

ROLES: list[Role] = ["slave", "master"]
Find = Callable[[Any], list[str]]


def load(role: Role, name: str) -> tuple[Any, Find]:
    if name == "service.yaml":
        return read(f"containers/{role}/{name}"), lambda value: find_service_faults(value, role)
    if name == "app.yaml":
        return read(f"containers/{role}/{name}"), lambda value: find_app_faults(value, role)
    text = (ROOT / "containers" / role / name).read_text()
    return yaml.safe_load(text), find_build_faults


FILES = ["service.yaml", "cloudbuild.yaml", "app.yaml"]


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("name", FILES)
def test_the_file_is_what_googles_schema_describes(role: Role, name: str) -> None:
    document, find_faults = load(role, name)
    assert find_faults(document) == []


def walk(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all members of all mappings."""
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(value, dict):
            yield (*path, key)
        if isinstance(item, dict | list):
            yield from walk(item, (*path, key))


def misspell(document: Any, path: tuple[Any, ...]) -> Any:
    """A copy in which the name of that member has two letters swapped."""
    changed = copy.deepcopy(document)
    parent = changed
    for step in path[:-1]:
        parent = parent[step]
    name = path[-1]
    swapped = next(
        name[:at] + name[at + 1] + name[at] + name[at + 2 :]
        for at in range(len(name) - 2, -1, -1)
        if name[at] != name[at + 1]
    )
    parent[swapped] = parent.pop(name)
    return changed


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("name", FILES)
def test_a_typo_in_any_name_is_caught(role: Role, name: str) -> None:
    document, find_faults = load(role, name)
    paths = list(walk(document))
    missed = [path for path in paths if not find_faults(misspell(document, path))]
    assert len(paths) > 10
    assert missed == []


@pytest.mark.parametrize("role", ROLES)
def test_a_misspelled_name_of_a_setting_is_caught(role: Role) -> None:
    document, find_faults = load(role, "service.yaml")
    entries = document["spec"]["template"]["spec"]["containers"][0]["env"]
    for index, entry in enumerate(entries):
        changed = copy.deepcopy(document)
        name = entry["name"][:-1] + "_"
        changed["spec"]["template"]["spec"]["containers"][0]["env"][index]["name"] = name
        assert find_faults(changed), name


def set_(document: Any, path: str, value: Any) -> Any:
    changed = parent = copy.deepcopy(document)
    *steps, last = [int(step) if step.isdigit() else step for step in path.split("/")]
    for step in steps:
        parent = parent[step]
    parent[last] = value
    return changed


SPEC = "spec/template/spec"
CONTAINER = f"{SPEC}/containers/0"


@pytest.mark.parametrize(
    ("role", "path", "value", "fault"),
    [
        ("slave", f"{SPEC}/containerConcurrency", "32", "not of type integer"),
        ("slave", f"{SPEC}/containerConcurrency", 1001, "more requests at the same time"),
        ("slave", f"{CONTAINER}/env/1/value", 268435456, "not of type string"),
        ("slave", f"{CONTAINER}/env/1/value", "900000000", "do not fit"),
        ("slave", f"{CONTAINER}/env/3/name", "ALLOW_EPHEMERAL", "ALLOW_EPHEMERAL: must be"),
        ("slave", f"{CONTAINER}/ports/0/containerPort", "8080", "not of type integer"),
        ("slave", f"{CONTAINER}/livenessProbe/httpGet/path", "/healthz", "does not ask /health"),
        ("slave", f"{CONTAINER}/startupProbe/failureThreshold", 300, "waits longer"),
        ("master", f"{SPEC}/timeoutSeconds", 60, "longer than a request"),
        ("master", f"{CONTAINER}/env/0/value", "firestore:my-project", "STORE: must be"),
        ("master", f"{CONTAINER}/env/0/value", "sqlite:/data", "allows one instance"),
        ("master", f"{CONTAINER}/resources/limits", {"memory": "1Gi"}, "not of cpu and memory"),
        ("master", "kind", "Sevice", "not a Service"),
        ("master", "metadata", {"annotations": {"run.googleapis.com/cpu": "1"}}, "no annotation"),
    ],
)
def test_a_wrong_value_is_caught(role: Role, path: str, value: Any, fault: str) -> None:
    document, find_faults = load(role, "service.yaml")
    assert any(fault in found for found in find_faults(set_(document, path, value)))


@pytest.mark.parametrize("role", ROLES)
def test_an_image_is_built_from_the_root_with_its_own_dockerfile(role: Role) -> None:
    build, _ = load(role, "cloudbuild.yaml")
    [step] = build["steps"]
    assert f"--file=containers/{role}/Dockerfile" in step["args"]
    assert step["args"][0] == "build"
    assert step["args"][-1] == "."
    assert build["images"] == [f"${{_IMAGES}}/{role}:${{_TAG}}"]
    assert f"--tag={build['images'][0]}" in step["args"]


# -- elsewhere -------------------------------------------------------------------------------------


def test_compose_is_what_its_published_schema_describes(tmp_path: Path) -> None:
    text = (ROOT / "containers/compose.yaml").read_text()
    assert check_compose(ROOT / "containers/compose.yaml") == 0
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(text.replace("  pids_limit:", "  pid_limit:"))
    assert check_compose(wrong) == 1


def check_compose(path: Path) -> int:
    """Return the exit code of a check against the schema of the Compose specification."""
    tool = Path(sys.executable).with_name("check-jsonschema")
    return subprocess.run(
        [tool, "--builtin-schema", "vendor.compose-spec", path], capture_output=True, timeout=60
    ).returncode


def test_compose_runs_the_images_with_valid_settings() -> None:
    compose = yaml.safe_load((ROOT / "containers/compose.yaml").read_text())
    services = compose["services"]
    assert set(services) == {"master", "slave-alpha", "slave-beta", "forward"}
    for name in ("master", "slave-alpha", "slave-beta"):
        service = services[name]
        role: Role = "master" if name == "master" else "slave"
        secrets = {"SYNC_TOKENS": "secret", "SOURCES": "", "CONSOLE_TOKEN": "c" * 16}
        environment = {n: secrets.get(n, value) for n, value in service["environment"].items()}
        assert list(find_settings_faults(role, environment, {})) == []
        assert service["build"] == {
            "context": "..",
            "dockerfile": f"containers/{role}/Dockerfile",
        }
        assert service["volumes"][0] == f"{name}:/data"
        settings = Settings.from_env(role, environment)
        assert (settings.retention_bytes is not None) == (role == "slave")
        assert (
            bool(settings.console_token) == (settings.sync_every_ms == 60_000) == (role == "master")
        )
        assert {"mem_limit", "pids_limit"} <= set(service)
        assert service["ports"][0].endswith(":8080")
        assert service["read_only"] is True
        assert name in compose["volumes"]
    assert services["master"]["volumes"] == ["master:/data", "backup:/backup"]
    assert services["master"]["healthcheck"]["test"][0] == "CMD"
    forward = services["forward"]
    assert forward["profiles"] == ["forward"], "it needs the address of an application"
    assert forward["depends_on"] == {"master": {"condition": "service_healthy"}}
    assert forward["environment"]["SYNC_TOKENS"] == "${TRIGGER_TOKEN}"
    check_forward_command(forward["entrypoint"], forward["environment"])
    assert forward["volumes"] == ["forward:/data"]
    for name in ("master", "slave-alpha", "slave-beta"):
        trusted = "TRIGGER_TOKEN" in services[name]["environment"]["SYNC_TOKENS"]
        assert trusted == (name == "master")
    for service in services.values():
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
        assert service["security_opt"] == ["no-new-privileges:true"]
    for address in services["master"]["environment"]["SLAVES"].split(","):
        assert address.partition("=http://")[2].removesuffix(":8080") in services


def check_forward_command(command: list[str], environment: dict[str, str]) -> None:
    """Check that the command accepts these arguments, and keeps its state on the volume."""
    assert command[:2] == ["webhook-sync", "forward"]
    parent = main.make_context("webhook-sync", command[1:])
    options = forward_command.make_context("forward", command[2:], parent=parent).params
    assert str(options["state_path"]).startswith("/data/")
    read = {parameter.envvar for parameter in forward_command.params} | {"MASTER_URL"}
    assert set(environment) <= read, "a variable that the command does not read"


UNITS = [
    "webhook-sync@.service",
    "webhook-sync-trigger.service",
    "webhook-sync-forward@.service",
    "webhook-sync-backup@.service",
]


def read_unit(name: str) -> configparser.ConfigParser:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]  # names keep their case
    unit.read(ROOT / "containers/systemd" / name)
    return unit


@pytest.mark.parametrize("name", UNITS)
def test_units_start_what_is_installed(name: str) -> None:
    unit = read_unit(name)
    command = unit["Service"]["ExecStart"].split()
    assert command[0] == "/opt/webhook-sync/bin/webhook-sync"
    assert command[1] in ("serve", "sync", "forward", "backup")
    assert unit["Service"]["NoNewPrivileges"] == "yes"
    assert unit["Service"]["UMask"] == "0077"
    assert unit["Service"]["EnvironmentFile"].startswith("/etc/webhook-sync/")


def test_the_trigger_has_settings_of_its_own() -> None:
    files = [read_unit(name)["Service"]["EnvironmentFile"] for name in UNITS]
    assert files == [
        "/etc/webhook-sync/%i.env",
        "/etc/webhook-sync/trigger.env",
        "/etc/webhook-sync/forward-%i.env",
        "/etc/webhook-sync/%i.env",
    ]


def test_forward_keeps_its_state_where_systemd_makes_a_folder() -> None:
    service = read_unit("webhook-sync-forward@.service")["Service"]
    assert f"--state /var/lib/{service['StateDirectory']}/" in service["ExecStart"]


def test_a_backup_is_outside_of_the_store_that_the_node_has_by_default() -> None:
    node, backup = (
        read_unit(f"webhook-sync{name}@.service")["Service"] for name in ("", "-backup")
    )
    assert node["Environment"] == backup["Environment"]
    assert backup["ExecStart"].endswith(f" /var/lib/{backup['StateDirectory']}")
    assert backup["ReadWritePaths"] == f"-/var/lib/{node['StateDirectory']}"


@pytest.mark.parametrize("name", UNITS)
def test_systemd_finds_units_valid_and_confined(name: str, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        give_up("no systemd-analyze")
    text = (ROOT / "containers/systemd" / name).read_text()
    path = tmp_path / name.replace("@.", "@slave.")
    path.write_text(text.replace("/opt/webhook-sync/bin/webhook-sync", "/bin/true"))
    assert analyze("verify", "--man=no", path) == (0, "")
    code, output = analyze("security", "--offline=yes", "--threshold=20", path)
    assert code == 0, output
    path.write_text(path.read_text().replace("SystemCallFilter=", "SystemCallFitler="))
    assert "SystemCallFitler" in analyze("verify", "--man=no", path)[1]


def analyze(*arguments: str | Path) -> tuple[int, str]:
    done = subprocess.run(
        ["systemd-analyze", *arguments, "--no-pager"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout


def test_the_timer_calls_the_port_that_a_master_has_unless_it_is_set() -> None:
    unit = (ROOT / "containers/systemd/webhook-sync-trigger.service").read_text()
    port = Settings.from_env("master", {"SYNC_TOKENS": "secret"}).port
    assert f"--master http://localhost:{port}\n" in unit
    guide = " ".join(GUIDE.read_text().split())
    assert f"leave the master at {port}, which the timer calls" in guide


def test_no_file_leaves_a_variable_open() -> None:
    for role in ROLES:
        for name in ("service.yaml", "app.yaml"):
            text = yaml.safe_dump(read(f"containers/{role}/{name}", SAMPLE))
            assert "$" not in text
