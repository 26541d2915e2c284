"""The deployment guide's commands: each block is shell, each flag is one of gcloud's, and what they
would deploy fits together."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from portable_core.adapters.memory_store import MemoryStore
from portable_core.adapters.metrics import Metrics
from portable_core.adapters.system_clock import SystemClock
from portable_core.cli import main
from portable_core.master import Master
from portable_core.node import Node
from portable_core.receiver import Receiver
from portable_core.settings import Settings
from portable_core.slave import Slave
from tests.deployment.documents import (
    find_app_faults,
    find_service_faults,
    find_settings_faults,
    read_environment,
)
from tests.deployment.gcloud import find_faults, load
from tests.deployment.guide import GUIDE, ROOT, Block, Call, read_blocks, run_bash, run_blocks

BLOCKS = list(read_blocks(GUIDE.read_text()))
TABLE = load()


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> list[Call]:
    return run_blocks(BLOCKS, tmp_path_factory.mktemp("guide"))


def by_gcloud(calls: Sequence[Call], *beginning: str) -> list[Call]:
    return [
        call
        for call in calls
        if call.program == "gcloud" and list(call.arguments[: len(beginning)]) == list(beginning)
    ]


# -- shell -----------------------------------------------------------------------------------------


def test_there_are_blocks() -> None:
    assert len(BLOCKS) >= 20


@pytest.mark.parametrize("block", BLOCKS, ids=[f"line-{block.line}" for block in BLOCKS])
def test_a_block_is_shell(block: Block, tmp_path: Path) -> None:
    done = run_bash(block.text, tmp_path, dict(os.environ), "-n")
    assert done.returncode == 0, done.stderr


def test_a_block_that_is_not_shell_is_caught(tmp_path: Path) -> None:
    done = run_bash("for x in 1 2; do echo 'one\ndone\n", tmp_path, dict(os.environ), "-n")
    assert done.returncode != 0


def test_a_variable_that_no_block_has_set_is_caught(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="REGION_C"):
        run_blocks([*BLOCKS[:1], Block("", 1, 'echo "$REGION_C"\n')], tmp_path)


# -- gcloud ----------------------------------------------------------------------------------------


def test_every_command_and_flag_is_one_of_gclouds(calls: list[Call]) -> None:
    ours = [call for call in calls if call.program == "gcloud"]
    assert len(ours) > 50
    assert [fault for call in ours for fault in find_faults(call.arguments, TABLE)] == []
    assert "Google Cloud CLI" in TABLE["source"]


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ("run deplyo x", "no such command"),
        ("run deploy x --regoin=a", "no flag --regoin"),
        ("run deploy x --region", "--region needs a value"),
        ("run deploy x --no-cpu-bost", "no flag --no-cpu-bost"),
        ("run deploy x --cpu-boost=yes", "--cpu-boost takes no value"),
        ("run deploy x --no-region", "no flag --no-region"),
        ("firestore databases create --type=native", "is not one of"),
        ("artifacts repositories create x --repository-format", "needs a value"),
    ],
)
def test_a_typo_is_caught(arguments: str, fault: str) -> None:
    assert any(fault in found for found in find_faults(arguments.split(), TABLE))


def test_every_flag_misspelled_is_caught(calls: list[Call]) -> None:
    for call in calls:
        for index, argument in enumerate(call.arguments):
            if call.program == "gcloud" and argument.startswith("--"):
                name, equals, value = argument.partition("=")
                wrong = [*call.arguments]
                wrong[index] = f"{name}x{equals}{value}"
                assert list(find_faults(wrong, TABLE)), wrong


# -- what is deployed ------------------------------------------------------------------------------


class Deployed:
    """The nodes that the guide's commands would make, by name: their settings and accounts."""

    def __init__(self, calls: Sequence[Call]) -> None:
        self.settings: dict[str, Settings] = {}
        self.accounts: dict[str, str] = {}
        self.faults: list[str] = []
        for call in by_gcloud(calls, "run", "services", "replace"):
            self._add_service(yaml.safe_load(call.input))
        for beginning in (("run", "deploy"), ("functions", "deploy")):
            for call in by_gcloud(calls, *beginning):
                self._add_function(call)

    def _add_service(self, service: Any) -> None:
        name = service["metadata"]["name"]
        role = "master" if "master" in name else "slave"
        self.faults += find_service_faults(service, "master" if role == "master" else "slave")
        self.accounts[name] = service["spec"]["template"]["spec"]["serviceAccountName"]
        environment = {**read_environment(service), "K_SERVICE": name}
        self.settings[name] = Settings.from_env(
            "master" if role == "master" else "slave", environment
        )

    def _add_function(self, call: Call) -> None:
        flags = read_flags(call)
        name = next(word for word in call.arguments[2:] if not word.startswith("-"))
        text = flags["--set-env-vars"]
        assert text.startswith("^;^")
        environment = dict(item.split("=", 1) for item in text[3:].split(";"))
        self.faults += find_settings_faults("slave", environment, {"K_SERVICE": name})
        assert flags["--set-build-env-vars"] == "GOOGLE_FUNCTION_SOURCE=functions/main.py"
        assert flags.get("--function", flags.get("--entry-point")) == "slave"
        assert flags["--max-instances"] == "1"
        assert int(flags["--concurrency"]) <= int(environment["THREADS"])
        account = flags.get("--service-account") or flags["--run-service-account"]
        before = self.settings.get(name)
        self.settings[name] = Settings.from_env("slave", {**environment, "K_SERVICE": name})
        assert before in (None, self.settings[name]), "both commands deploy the same node"
        self.accounts[name] = account


def read_flags(call: Call) -> dict[str, str]:
    return dict(
        (argument + "=").split("=", 1) if "=" not in argument else argument.split("=", 1)
        for argument in call.arguments
        if argument.startswith("--")
    )


def test_what_is_deployed_is_valid(calls: list[Call]) -> None:
    deployed = Deployed(calls)
    assert deployed.faults == []
    assert set(deployed.settings) == {"webhook-master", "webhook-slave-a", "webhook-slave-b"}


def test_the_nodes_find_each_other_and_let_each_other_in(calls: list[Call]) -> None:
    deployed = Deployed(calls)
    master = deployed.settings["webhook-master"]
    addresses = {slave.name: slave.url for slave in master.slaves}
    assert set(addresses) == set(deployed.settings) - {"webhook-master"}
    for name, url in addresses.items():
        slave = deployed.settings[name]
        assert slave.node_name == name
        assert url in slave.oidc_audience
        assert deployed.accounts["webhook-master"] in slave.oidc_accounts
        assert slave.hand_over in master.oidc_audience
        assert deployed.accounts[name] in master.oidc_accounts
        assert slave.span_ms == master.span_ms


def test_the_scheduler_is_let_in_every_minute(calls: list[Call]) -> None:
    master = Deployed(calls).settings["webhook-master"]
    [job] = by_gcloud(calls, "scheduler", "jobs", "create", "http")
    flags = read_flags(job)
    assert flags["--oidc-token-audience"] in master.oidc_audience
    assert flags["--oidc-service-account-email"] in master.oidc_accounts
    assert flags["--uri"] == f"{flags['--oidc-token-audience']}/trigger-sync"
    assert flags["--schedule"] == "* * * * *"
    assert int(flags["--attempt-deadline"].rstrip("s")) * 1000 > master.sync_budget_ms


def test_every_account_secret_and_database_is_made_and_removed(calls: list[Call]) -> None:
    deployed = Deployed(calls)

    def names(*beginning: str) -> set[str]:
        return {call.arguments[len(beginning)] for call in by_gcloud(calls, *beginning)}

    made = names("iam", "service-accounts", "create")
    assert {account.partition("@")[0] for account in deployed.accounts.values()} <= made
    removed = names("iam", "service-accounts", "delete")
    assert {account.partition("@")[0] for account in removed} == made
    assert names("secrets", "create") == names("secrets", "delete") == {"webhook-sources"}
    assert names("run", "services", "delete") == set(deployed.settings)
    [created, *_] = by_gcloud(calls, "firestore", "databases", "create")
    [deleted] = by_gcloud(calls, "firestore", "databases", "delete")
    database = read_flags(created)["--database"]
    assert read_flags(deleted)["--database"] == database
    assert deployed.settings["webhook-master"].store.path.endswith(f"/{database}")


def test_the_secret_has_the_form_of_sources(calls: list[Call]) -> None:
    from portable_core.signatures import parse_sources

    for call in by_gcloud(calls, "secrets", "create") + by_gcloud(calls, "secrets", "versions"):
        parse_sources(call.input)
        assert "github=github:0123456789abcdef" in call.input


def test_the_index_commands_are_the_index_file(calls: list[Call]) -> None:
    document = json.loads((ROOT / "containers/firestore.indexes.json").read_text())
    wanted = {
        (entry["collectionGroup"], entry["fieldPath"]): [
            f"order={index['order'].lower()}" for index in entry["indexes"]
        ]
        for entry in document["fieldOverrides"]
    }
    told = {}
    for call in by_gcloud(calls, "firestore", "indexes", "fields", "update"):
        orders = [a.split("=", 1)[1] for a in call.arguments if a.startswith("--index=")]
        assert bool(orders) != ("--disable-indexes" in call.arguments)
        told[read_flags(call)["--collection-group"], call.arguments[4]] = orders
    assert told == wanted


def test_the_app_engine_file_is_valid_as_the_guide_fills_it_in(tmp_path: Path) -> None:
    kept = [block for block in BLOCKS if "app.yaml" in block.text]
    [block] = kept
    first = [b for b in BLOCKS if b.heading in ("Names", "The senders' secrets")]
    run_blocks([*first, Block("", 1, block.text.replace("rm app.yaml", ""))], tmp_path)
    assert find_app_faults(yaml.safe_load((tmp_path / "app.yaml").read_text()), "slave") == []


def test_kubernetes_gets_whole_manifests(calls: list[Call]) -> None:
    [applied] = [c for c in calls if c.program == "kubectl" and c.arguments[0] == "apply"]
    assert [part["kind"] for part in yaml.safe_load_all(applied.input)] == [
        "Service",
        "StatefulSet",
        "CronJob",
    ]
    assert "$" not in applied.input


# -- what else it says -----------------------------------------------------------------------------


def test_our_own_commands_have_these_flags() -> None:
    text = "\n".join(
        [GUIDE.read_text()]
        + [path.read_text() for path in (ROOT / "containers").rglob("*") if path.is_file()]
    )
    assert isinstance(main, click.Group)
    used = re.findall(r"webhook-sync[\", ]+(serve|sync)((?:[\", ]+--?[a-z]+[^\n]*)?)", text)
    assert {name for name, _ in used} == {"serve", "sync"}
    for name, rest in used:
        command = main.get_command(click.Context(main), name)
        assert command is not None
        known = {option for parameter in command.params for option in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", rest)) <= known, (name, rest)


def test_the_table_of_metrics_is_whole() -> None:
    settings = Settings.from_env("slave", {"SYNC_AUTH": "none", "STORE": "memory:"})
    store = MemoryStore()
    receiver = Receiver(settings, store, SystemClock())
    node = Node(settings, receiver, lambda header: None, lambda *_: None)
    node.slave, node.master = Slave(receiver), Master(receiver, store, [])
    text = Metrics(node).expose("")[0].decode()
    exposed = {
        re.sub("_total$", "", name)
        for name in re.findall(r"^# TYPE (webhook_sync_\w+)", text, re.MULTILINE)
    }
    # A store that cannot tell its size or files has no such line.
    exposed |= {"webhook_sync_store_bytes", "webhook_sync_store_files"}
    told = set(re.findall(r"^\| (`webhook_sync_.*?) \|", GUIDE.read_text(), re.MULTILINE))
    names = {name for cell in told for name in re.findall(r"`(\w+)`", cell)}
    assert {re.sub("_total$", "", name) for name in names} == exposed


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#:]+)", GUIDE.read_text()):
        assert (GUIDE.parent / target).exists(), target
