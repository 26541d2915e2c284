"""The deployment guide's commands: each block is shell, each flag is one of gcloud's, and what they
would deploy fits together."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import click
import pytest
import yaml

from portable_core.adapters.memory_store import MemoryStore
from portable_core.adapters.metrics import Metrics
from portable_core.adapters.system_clock import SystemClock
from portable_core.cli.main import main
from portable_core.ingest.receiver import Receiver
from portable_core.node import Node
from portable_core.settings import Settings
from portable_core.sources.decision import Admit
from portable_core.sync.master import Master
from portable_core.sync.slave import Slave
from tests.support.deployment.deployed import Deployed, by_flags, by_gcloud, by_name, read_flags
from tests.support.deployment.gcloud import find_faults, load
from tests.support.deployment.guide import (
    GUIDE,
    ROOT,
    Block,
    Call,
    read_blocks,
    run_bash,
    run_blocks,
)

BLOCKS = list(read_blocks(GUIDE.read_text()))
NODES = ("master", "slave-a", "slave-b", "slave-c")

#: What a group of gcloud's commands needs to be enabled (``gcloud services enable``).
INTERFACES = {
    "app": ("appengine", "appengineflex"),
    "artifacts": ("artifactregistry",),
    "builds": ("cloudbuild",),
    "firestore": ("firestore",),
    "functions": ("cloudfunctions", "cloudbuild"),
    "run": ("run",),
    "scheduler": ("cloudscheduler",),
    "secrets": ("secretmanager",),
}

TABLE = load()


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> list[Call]:
    return run_blocks(BLOCKS, tmp_path_factory.mktemp("guide"))


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


def test_what_is_deployed_is_valid(calls: list[Call]) -> None:
    deployed = Deployed(calls)
    assert deployed.faults == []
    assert set(deployed.settings) == {f"webhook-{name}" for name in NODES}


def test_a_new_version_leaves_a_service_as_it_was(calls: list[Call]) -> None:
    at = next(i for i, call in enumerate(calls) if any(":v2" in a for a in call.arguments))
    before, after = Deployed(calls[:at]), Deployed(calls)
    assert before.settings == after.settings
    assert after.settings["webhook-slave-a"].store.kind.name == "firestore"
    renewed = {a for call in calls[at:] for a in call.arguments if a in after.environments}
    assert renewed == set(after.environments) - {"webhook-slave-c"}  # of that the text speaks


def test_every_node_on_cloud_run_reads_a_new_secret(calls: list[Call]) -> None:
    [at] = [
        i
        for i, call in enumerate(calls)
        if list(call.arguments[:3]) == ["secrets", "versions", "add"]
    ]
    started = {
        call.arguments[3]
        for call in by_gcloud(calls[at:], "run", "services", "update")
        if read_flags(call).get("--update-secrets") == "SOURCES=webhook-sources:latest"
    }
    assert started == set(by_name(calls, "run", "services", "delete"))


def test_googles_check_is_off_wherever_the_node_checks_tokens(calls: list[Call]) -> None:
    assert by_gcloud(calls, "functions", "deploy")
    assert Deployed(calls).checked == set()


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
        assert bool(slave.hand_over) == (slave.store.kind.name != "firestore")
        assert not slave.hand_over or slave.hand_over in master.oidc_audience
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


def test_everything_that_is_made_is_removed(calls: list[Call]) -> None:
    deployed = Deployed(calls)
    accounts = set(by_name(calls, "iam", "service-accounts", "create"))
    assert {account.partition("@")[0] for account in deployed.accounts.values()} <= accounts
    removed = by_name(calls, "iam", "service-accounts", "delete")
    assert {account.partition("@")[0] for account in removed} == accounts
    for made in (("secrets", "create"), ("scheduler", "jobs", "create", "http")):
        kind = made[: -1 if made[-1] == "create" else -2]
        assert set(by_name(calls, *made)) == set(by_name(calls, *kind, "delete"))
    on_run = {name for name in deployed.settings if name != "webhook-slave-c"}
    assert set(by_name(calls, "run", "services", "delete")) == on_run
    services = {yaml.safe_load(call.input)["service"] for call in by_gcloud(calls, "app", "deploy")}
    stopped = by_flags(calls, "app", "versions", "stop", flags=["--service"])
    assert {(service,) for service in services} == stopped

    databases = by_flags(calls, "firestore", "databases", "create", flags=["--database"])
    assert by_flags(calls, "firestore", "databases", "delete", flags=["--database"]) == databases
    used = {
        node.store.path.partition("/")[2]
        for node in deployed.settings.values()
        if node.store.kind.name == "firestore"
    }
    assert {database for (database,) in databases} == used

    binding = ["--member", "--role"]
    bound = by_flags(calls, "projects", "add-iam-policy-binding", flags=binding)
    assert by_flags(calls, "projects", "remove-iam-policy-binding", flags=binding) == bound

    def read_repositories(verb: str) -> set[tuple[str, str]]:
        beginning = ("artifacts", "repositories", verb)
        return {
            (call.arguments[3], read_flags(call)["--location"])
            for call in by_gcloud(calls, *beginning)
        }

    # Google makes these two when something is deployed from source.
    implied = {
        (repository, read_flags(call)["--region"])
        for command, repository in (
            ("run", "cloud-run-source-deploy"),
            ("functions", "gcf-artifacts"),
        )
        for call in by_gcloud(calls, command, "deploy")
    }
    assert read_repositories("delete") == read_repositories("create") | implied


def test_accounts_have_the_roles_that_their_part_needs(calls: list[Call]) -> None:
    bound = by_flags(calls, "projects", "add-iam-policy-binding", flags=["--member", "--role"])
    suffix = "@my-project.iam.gserviceaccount.com"
    assert {(member.removesuffix(suffix), role) for member, role in bound} == {
        ("serviceAccount:webhook-master", "roles/datastore.user"),
        ("serviceAccount:webhook-slave", "roles/datastore.user"),
        ("serviceAccount:webhook-slave", "roles/logging.logWriter"),
        ("serviceAccount:webhook-slave", "roles/artifactregistry.reader"),
        (
            "serviceAccount:123456789012-compute@developer.gserviceaccount.com",
            "roles/run.builder",
        ),
    }


def test_the_interfaces_of_what_is_called_are_enabled_before(calls: list[Call]) -> None:
    enabled: set[str] = set()
    for call in calls:
        if list(call.arguments[:2]) == ["services", "enable"]:
            enabled |= {name.partition(".")[0] for name in call.arguments[2:]}
        elif call.program == "gcloud" and (name := call.arguments[0]) in INTERFACES:
            assert set(INTERFACES[name]) <= enabled, call.arguments


def test_the_secret_has_the_form_of_sources(calls: list[Call]) -> None:
    from portable_core.sources.signatures import parse_sources

    made = by_gcloud(calls, "secrets", "create") + by_gcloud(calls, "secrets", "versions")
    of_sources = [call for call in made if "webhook-sources" in call.arguments]
    assert len(of_sources) == len(made) - 1, "the other one is the console's"
    for call in of_sources:
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


def test_an_applications_first_service_is_its_default(calls: list[Call]) -> None:
    first = [call for call in calls if call.program == "gcloud" and call.arguments[0] == "app"][:2]
    create, deploy = first
    assert create.arguments[1] == "create"
    assert yaml.safe_load(deploy.input)["service"] == "default"


def test_kubernetes_gets_folders_that_exist(calls: list[Call]) -> None:
    built = [c.arguments[1] for c in calls if c.program == "kubectl" and "kustomize" in c.arguments]
    assert len(built) == 2
    assert all((ROOT / folder / "kustomization.yaml").is_file() for folder in built)


# -- what else it says -----------------------------------------------------------------------------


def test_our_own_commands_have_these_flags() -> None:
    text = "\n".join(
        [GUIDE.read_text()]
        + [
            path.read_text()
            for path in (ROOT / "containers").rglob("*")
            if path.is_file() and path.suffix != ".pyc"
        ]
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
    settings = Settings.from_env("master", {"SYNC_AUTH": "none", "STORE": "memory:"})
    store = MemoryStore()
    receiver = Receiver(settings, store, SystemClock())
    node = Node(
        settings,
        receiver,
        lambda header: None,
        lambda *_: Admit(),
        slave=Slave(receiver),
        master=Master(receiver, store, []),
    )
    text = Metrics(settings).expose(node, "")[0].decode()
    exposed = {
        re.sub("_total$", "", name)
        for name in re.findall(r"^# TYPE (webhook_sync_\w+)", text, re.MULTILINE)
    }
    # A store that cannot tell its size or files has no such line.
    exposed |= {f"webhook_sync_store_{name}" for name in ("bytes", "files", "unchecked_files")}
    # A store in memory has no disk, and this node no consumers.
    exposed |= {"webhook_sync_disk_free_bytes", "webhook_sync_consumer_lag_seconds"}
    told = set(re.findall(r"^\| (`webhook_sync_.*?) \|", GUIDE.read_text(), re.MULTILINE))
    names = {name for cell in told for name in re.findall(r"`(\w+)`", cell)}
    assert {re.sub("_total$", "", name) for name in names} == exposed


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#:]+)", GUIDE.read_text()):
        assert (GUIDE.parent / target).exists(), target
