"""The YAML files under ``containers``, filled in as the guide does it, and their faults."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from string import Template
from typing import Any

import yaml

from portable_core.errors import SettingsError
from portable_core.settings import SETTINGS, Role, Settings
from tests.support.deployment.discovery import Api
from tests.support.deployment.guide import ROOT

#: What the guide's variables stand for.
SAMPLE = {
    "PROJECT": "my-project",
    "IMAGES": "europe-west1-docker.pkg.dev/my-project/webhook-sync",
    "TAG": "v1",
    "FORWARD_URL": "http://shop/webhooks",
    "MASTER_URL": "https://webhook-master-1.europe-west1.run.app",
    "SERVICE": "webhook-slave-a",
    "SLAVE": "webhook-slave-a",
    "SLAVE_URL": "https://webhook-slave-a-1.europe-west1.run.app",
    "SLAVES": "webhook-slave-a=https://webhook-slave-a-1.europe-west1.run.app",
    "SOURCES": "github=github:secret",
    "CONSOLE_TOKEN": "a-token-of-the-console",
}

#: Variables of the environment that are read by others than the settings.
OTHERS = {"GOOGLE_CLOUD_PROJECT"}


def read(path: str, variables: Mapping[str, str] = SAMPLE) -> Any:
    """The file as data. A variable that nobody fills in is an error."""
    return yaml.safe_load(Template((ROOT / path).read_text()).substitute(variables))


@cache
def api(name: str, version: str) -> Api:
    return Api(name, version)


# -- Cloud Run -------------------------------------------------------------------------------------


def find_service_faults(service: Any, role: Role) -> list[str]:
    """Everything that is wrong with a ``service.yaml``; the schema's faults come first."""
    faults = api("run", "v1").find_faults("Service", service)
    return faults or [
        *_find_annotation_faults(service),
        *_find_shape_faults(service),
        *_find_limit_faults(service["spec"]["template"], role),
        *find_settings_faults(role, read_environment(service), {"K_SERVICE": "x"}),
    ]


def read_environment(service: Any) -> dict[str, str]:
    """The variables of a service's container; a secret's value is made up."""
    return {
        entry["name"]: entry.get("value", SAMPLE.get(entry["name"], "secret"))
        for entry in service["spec"]["template"]["spec"]["containers"][0]["env"]
    }


def _find_shape_faults(service: Any) -> Iterator[str]:
    """The schema makes no member compulsory; these are."""
    if (service.get("apiVersion"), service.get("kind")) != ("serving.knative.dev/v1", "Service"):
        yield "it is not a Service of serving.knative.dev/v1"
    container = service["spec"]["template"]["spec"]["containers"][0]
    for name in ("image", "ports", "env", "resources", "startupProbe", "livenessProbe"):
        if name not in container:
            yield f"the container has no {name}"
    for name in ("serviceAccountName", "containerConcurrency", "timeoutSeconds"):
        if name not in service["spec"]["template"]["spec"]:
            yield f"the revision has no {name}"
    for name in ("startupProbe", "livenessProbe"):
        probe = container.get(name, {})
        if probe.get("httpGet") != {"path": "/health", "port": 8080}:
            yield f"{name} does not ask /health"
        if probe.get("timeoutSeconds", 1) > probe.get("periodSeconds", 10):
            yield f"{name}: timeoutSeconds is more than periodSeconds"
    for entry in container.get("env", ()):
        reference = entry.get("valueFrom", {}).get("secretKeyRef", {})
        if ("value" in entry) == (set(reference) == {"name", "key"}):
            yield f"{entry.get('name')}: neither a value nor a whole reference to a secret, or both"


def _find_annotation_faults(service: Any) -> Iterator[str]:
    known = api("run", "v1").read_annotations()
    for resource, metadata in (
        ("Service", service["metadata"]),
        ("Revision", service["spec"]["template"]["metadata"]),
    ):
        for name, value in metadata.get("annotations", {}).items():
            if resource not in known.get(name, ()):
                yield f"{name}: no annotation of a {resource}"
            if not re.fullmatch("true|false|[0-9]+", value):
                yield f"{name}: {value!r}"


def _find_limit_faults(revision: Any, role: Role) -> Iterator[str]:
    """What the settings, the platform's limits and the store need of each other."""
    spec, annotations = revision["spec"], revision["metadata"]["annotations"]
    container = spec["containers"][0]
    limits = container["resources"]["limits"]
    if set(limits) != {"cpu", "memory"}:
        yield f"limits of {', '.join(limits)}, not of cpu and memory"
        return
    environment = {entry["name"]: entry.get("value", "") for entry in container["env"]}
    defaults = {setting.name: setting.default for setting in SETTINGS}

    def number(name: str) -> int:
        return int(environment.get(name) or defaults[name] or 0)

    memory = {"Mi": 2**20, "Gi": 2**30}[limits["memory"][-2:]] * int(limits["memory"][:-2])
    if number("BUFFER_BYTES") + number("RETENTION_BYTES") > memory // 2:
        yield "the buffer and what is kept in memory do not fit into half the memory"
    # Webhooks wait on the event loop, without a thread.
    if spec["containerConcurrency"] > min(1000, number("MAX_CONNECTIONS")):
        yield "more requests at the same time than Cloud Run or the node accepts"
    if role == "master" and spec["timeoutSeconds"] <= number("SYNC_BUDGET_S"):
        yield "a sync may take longer than a request"
    shared = environment.get("STORE", "").startswith("firestore:")
    if not shared and annotations.get("autoscaling.knative.dev/maxScale") != "1":
        yield "a store in memory allows one instance"
    if environment.get("ACK") == "buffered" and (
        annotations.get("run.googleapis.com/cpu-throttling") != "false"
    ):
        yield "ACK=buffered needs the CPU between requests"
    startup = container["startupProbe"]
    if startup["periodSeconds"] * startup["failureThreshold"] > 240:
        yield "the startup probe waits longer than Cloud Run does"


def find_settings_faults(
    role: Role, environment: Mapping[str, str], platform: Mapping[str, str]
) -> Iterator[str]:
    """Names that no setting has, and what the settings themselves say."""
    known = {setting.name for setting in SETTINGS} | OTHERS
    for name in environment:
        if name not in known:
            yield f"{name}: there is no such setting"
    try:
        Settings.from_env(role, {**environment, **platform})
    except SettingsError as error:
        yield str(error)


# -- Cloud Build, App Engine -----------------------------------------------------------------------


def find_build_faults(build: Any) -> list[str]:
    """Faults of a ``cloudbuild.yaml``, and substitutions that are not declared or not used."""
    faults = api("cloudbuild", "v1").find_faults("Build", build)
    if faults:
        return faults
    text = yaml.safe_dump({key: value for key, value in build.items() if key != "substitutions"})
    used = set(re.findall(r"\$\{?(_[A-Z]+)\}?", text))
    return [f"{name}: only on one side" for name in used ^ set(build.get("substitutions", {}))]


def find_app_faults(app: Any, role: Role) -> list[str]:
    """Faults of an ``app.yaml``: its members are those of ``Version``, spelled with underscores.

    Durations are numbers of seconds there (``timeout_sec: 4`` is ``timeout: "4s"``), and the
    name of the service is no member of the version.
    """
    if not isinstance(app.get("service"), str):
        return ["it has no service"]
    version = _spell({name: value for name, value in app.items() if name != "service"})
    version["envVariables"] = app.get("env_variables")
    faults = api("appengine", "v1").find_faults("Version", version)
    return faults or list(find_settings_faults(role, app["env_variables"], {"K_SERVICE": "x"}))


#: Members whose names differ in more than the spelling.
_RENAMED = {
    "minNumInstances": "minTotalInstances",
    "maxNumInstances": "maxTotalInstances",
    "diskSizeGb": "diskGb",
}


def _spell(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    spelled = {}
    for name, item in value.items():
        if name.endswith("_sec"):
            name, item = name.removesuffix("_sec"), f"{item}s"
        camel = re.sub(r"_([a-z])", lambda match: match[1].upper(), name)
        spelled[_RENAMED.get(camel, camel)] = _spell(item)
    return spelled
