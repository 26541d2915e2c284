"""What the guide's commands would leave behind on Google Cloud, read from the calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from portable_core.settings import Role, Settings
from tests.support.deployment.documents import (
    find_app_faults,
    find_service_faults,
    find_settings_faults,
    read_environment,
)
from tests.support.deployment.guide import Call


def by_gcloud(calls: Sequence[Call], *beginning: str) -> list[Call]:
    return [
        call
        for call in calls
        if call.program == "gcloud" and list(call.arguments[: len(beginning)]) == list(beginning)
    ]


def by_name(calls: Sequence[Call], *beginning: str) -> list[str]:
    """What the calls that begin so name next."""
    return [call.arguments[len(beginning)] for call in by_gcloud(calls, *beginning)]


def by_flags(calls: Sequence[Call], *beginning: str, flags: Sequence[str]) -> set[tuple[str, ...]]:
    """The values of these flags, call by call."""
    told = map(read_flags, by_gcloud(calls, *beginning))
    return {tuple(values[flag] for flag in flags) for values in told}


class Deployed:
    """The nodes that are there after the guide's commands, by name: their settings and accounts.

    Each command changes what the ones before it have made, as Google would.
    """

    def __init__(self, calls: Sequence[Call]) -> None:
        self.environments: dict[str, dict[str, str]] = {}
        self.accounts: dict[str, str] = {}
        #: Nodes before which Google's own check of callers is on.
        self.checked: set[str] = set()
        self.faults: list[str] = []
        for call in calls:
            match list(call.arguments[:3]) if call.program == "gcloud" else []:
                case ["run", "services", "replace"]:
                    self._replace_service(yaml.safe_load(call.input))
                case ["run", "services", "update"]:
                    self._update(call.arguments[3], read_flags(call))
                case ["run" | "functions", "deploy", name]:
                    self._deploy_function(name, call.arguments[0], read_flags(call))
                case ["app", "deploy", _]:
                    self._deploy_app(yaml.safe_load(call.input))

    @property
    def settings(self) -> dict[str, Settings]:
        return {
            name: Settings.from_env(find_role(name), {**environment, "K_SERVICE": name})
            for name, environment in self.environments.items()
        }

    def _replace_service(self, service: Any) -> None:
        name = service["metadata"]["name"]
        self.faults += find_service_faults(service, find_role(name))
        self.accounts[name] = service["spec"]["template"]["spec"]["serviceAccountName"]
        self.environments[name] = read_environment(service)

    def _update(self, name: str, flags: dict[str, str]) -> None:
        environment = self.environments[name]
        for removed in filter(None, flags.get("--remove-env-vars", "").split(",")):
            del environment[removed]
        for item in filter(None, flags.get("--update-env-vars", "").split(",")):
            setting, _, value = item.partition("=")
            environment[setting] = value
        self.faults += find_settings_faults(find_role(name), environment, {"K_SERVICE": name})
        if "--no-invoker-iam-check" in flags:
            self.checked.discard(name)

    def _deploy_function(self, name: str, command: str, flags: dict[str, str]) -> None:
        assert flags["--set-build-env-vars"] == "GOOGLE_FUNCTION_SOURCE=functions/main.py"
        assert flags.get("--function", flags.get("--entry-point")) == "slave"
        if command == "functions":
            self.checked.add(name)
        before = self.environments.get(name)
        if before is not None and "--set-env-vars" not in flags:
            return  # a new version of the code
        text = flags["--set-env-vars"]
        assert text.startswith("^;^")
        environment = dict(item.split("=", 1) for item in text[3:].split(";"))
        self.faults += find_settings_faults("slave", environment, {"K_SERVICE": name})
        assert flags["--max-instances"] == "1"
        assert int(flags["--concurrency"]) <= 1000  # Google's most; webhooks wait without a thread
        assert before in (None, environment), "both commands deploy the same node"
        self.environments[name] = environment
        self.accounts[name] = flags.get("--service-account") or flags["--run-service-account"]

    def _deploy_app(self, app: Any) -> None:
        self.faults += find_app_faults(app, "slave")
        name = app["env_variables"]["NODE_NAME"]
        self.environments[name] = app["env_variables"]
        self.accounts[name] = app["service_account"]


def find_role(name: str) -> Role:
    return "master" if "master" in name else "slave"


def read_flags(call: Call) -> dict[str, str]:
    return dict(
        (argument + "=").split("=", 1) if "=" not in argument else argument.split("=", 1)
        for argument in call.arguments
        if argument.startswith("--")
    )
