"""A function as Google's Python buildpack builds and starts it, from a clean copy of the upload.

The steps are those of ``cmd/python/pip`` and ``cmd/python/functions_framework`` of Google's
buildpacks: ``requirements.txt`` goes before ``pyproject.toml``; it is installed into an environment
of its own; ``pip check`` and ``compileall`` must succeed; the process is bare
``functions-framework`` with ``FUNCTION_*`` in its environment.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from portable_core.demo.processes import NodeProcess
from portable_core.settings import Role
from tests.deployment.test_build_inputs import read_upload
from tests.support.missing import give_up
from tests.support.nodes.sync_nodes import TOKEN, fill, make_record, now_ms, post, sync
from tests.support.nodes.sync_nodes import Nodes as Reader

pytestmark = pytest.mark.timeout(600)

ROOT = Path(__file__).parents[2]
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"

#: What the buildpack passes to pip; the environment takes the place of ``--user``.
_PIP_OPTIONS = (
    "--upgrade",
    *("--upgrade-strategy", "only-if-needed"),
    "--no-warn-script-location",
    "--no-warn-conflicts",
    "--force-reinstall",
    "--no-compile",
    "--disable-pip-version-check",
)
_NO_NETWORK = re.compile("NewConnectionError|ConnectTimeout|name resolution|No matching distri")


class Workspace:
    """The uploaded files, and the environment that was built for them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "workspace"
        self.environment = folder / "layer"
        for name in read_upload(ROOT):
            target = self.folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target)

    def build(self) -> None:
        """The buildpack's steps, one after the other, from the workspace."""
        self.run(sys.executable, "-m", "venv", str(self.environment))
        python = str(self.environment / "bin" / "python3")
        self.run(python, "-m", "pip", "install", "--requirement", "requirements.txt", *_PIP_OPTIONS)
        self.run(
            *(python, "-m", "compileall", "--invalidation-mode", "unchecked-hash", "-qq", "-j0"),
            str(self.environment),
        )
        self.run(python, "-m", "pip", "check")
        self.run(python, "-m", "compileall", "-f", "-q", ".")

    def run(self, *command: str) -> str:
        """Run a command in an environment that knows nothing of the one the tests run in."""
        kept = {name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ}
        pip = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        done = subprocess.run(
            command,
            cwd=self.folder,
            env={"PATH": f"{self.environment}/bin:/usr/bin:/bin", **kept, **pip},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode and _NO_NETWORK.search(done.stderr):
            give_up("no package index: " + done.stderr.strip())
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout.strip()


class Function(NodeProcess):
    """A node that is started as the built image starts it, on what Cloud Run sets for it."""

    workspace: Workspace

    def _command(self) -> list[str]:
        environment = {
            "PATH": f"{self.workspace.environment}/bin:/usr/bin:/bin",
            "FUNCTION_TARGET": self.role,
            "FUNCTION_SOURCE": "functions/main.py",
            "FUNCTION_SIGNATURE_TYPE": "http",
            "K_SERVICE": self.name,
            "K_REVISION": f"{self.name}-00001-abc",
            "K_CONFIGURATION": self.name,
            "CLOUD_RUN_TIMEOUT_SECONDS": "300",
            "LOG_EXECUTION_ID": "true",
            "PYTHONUNBUFFERED": "TRUE",
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            **self.env,
        }
        settings = [f"{name}={value}" for name, value in environment.items()]
        return [
            *("/usr/bin/env", "--ignore-environment", f"--chdir={self.workspace.folder}"),
            *settings,
            "functions-framework",
        ]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = Workspace(tmp_path_factory.mktemp("buildpack"))
    workspace.build()
    return workspace


@contextmanager
def made(workspace: Workspace, folder: Path, role: Role, **env: str) -> Iterator[Function]:
    node = Function(role, role, "function", {"SYNC_TOKENS": TOKEN, **env}, folder / f"{role}.log")
    node.workspace = workspace
    try:
        yield node
    finally:
        node.kill()


def test_the_environment_holds_the_pinned_versions_and_the_uploaded_project(
    workspace: Workspace,
) -> None:
    python = str(workspace.environment / "bin" / "python3")
    installed = set(workspace.run(python, "-m", "pip", "freeze", "--exclude-editable").split())
    pinned = re.findall(r"^\S+==\S+", (workspace.folder / "requirements.txt").read_text(), re.M)
    normal = {re.sub(r"[-_.]+", "-", line).lower() for line in installed}
    assert normal == {re.sub(r"[-_.]+", "-", line) for line in pinned}
    where = workspace.run(python, "-c", "import portable_core; print(portable_core.__file__)")
    assert Path(where) == workspace.folder / "portable_core" / "__init__.py"


def test_new_code_counts_without_a_new_installation(workspace: Workspace) -> None:
    """The buildpack keeps what it installed while ``requirements.txt`` is the same."""
    module = workspace.folder / "portable_core" / "added_later.py"
    module.write_text("ANSWER = 42\n")
    python = str(workspace.environment / "bin" / "python3")
    code = "from portable_core.added_later import ANSWER; print(ANSWER)"
    assert workspace.run(python, "-c", code) == "42"
    module.unlink()


def test_a_function_receives_syncs_and_hands_over(workspace: Workspace, tmp_path: Path) -> None:
    old = fill(
        tmp_path / "slave", (make_record(n, now_ms() - 600_000 + n) for n in range(100, 130))
    )
    with (
        made(workspace, tmp_path, "slave") as slave,
        made(workspace, tmp_path, "master", STORE=f"sqlite:{tmp_path / 'master'}") as master,
    ):
        slave.env = {
            **slave.env,
            "STORE": f"sqlite:{tmp_path / 'slave'}",
            "HAND_OVER": master.url,
        }
        master.env = {**master.env, "SLAVES": f"slave={slave.url}", "ALLOW_EPHEMERAL": "1"}
        for node in (slave, master):
            node.start()
        for node in (slave, master):
            node.wait_until_healthy()
        payloads = post(slave, range(20))
        assert len(payloads) == 20

        report = sync(master)
        assert report.status == 200, report.body
        assert report.body["slaves"][0]["saved"] == len(old)

        assert slave.stop() == 0, slave.read_log_end()
        assert master.stop() == 0, master.read_log_end()
        with Reader(tmp_path) as reader:
            there = {record.payload for record in reader.read(master)}
        assert there == set(payloads.values()) | {record.payload for record in old}


def test_its_log_is_lines_of_json_with_the_requests_trace(
    workspace: Workspace, tmp_path: Path
) -> None:
    env = {"STORE": "memory:", "ALLOW_EPHEMERAL": "1", "GOOGLE_CLOUD_PROJECT": "my-project"}
    with made(workspace, tmp_path, "slave", SYNC_AUTH="oidc", **env) as slave:
        slave.env = {
            **slave.env,
            "OIDC_AUDIENCE": slave.url,
            "OIDC_ACCOUNTS": "a@b.iam.gserviceaccount.com",
            "OIDC_CERTS_URL": "http://127.0.0.1:9",  # nobody answers: 503, and a line in the log
        }
        slave.start()
        slave.wait_until_healthy()
        request = urllib.request.Request(f"{slave.url}/status")
        request.add_header("Authorization", "Bearer eyJhbGciOiJSUzI1NiIsImtpZCI6IngifQ.e30.AA")
        request.add_header("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01")
        with pytest.raises(urllib.error.HTTPError) as failed:
            urllib.request.urlopen(request, timeout=30)
        assert failed.value.code == 503
        assert slave.stop() == 0
        lines = [json.loads(line) for line in slave.log.read_text().splitlines()]
    assert lines
    assert all({"severity", "message", "time"} <= line.keys() for line in lines)
    traces = {line.get("logging.googleapis.com/trace") for line in lines}
    assert f"projects/my-project/traces/{TRACE}" in traces
    assert "eyJ" not in slave.log.read_text()


def test_without_a_place_to_hand_over_to_it_does_not_start(
    workspace: Workspace, tmp_path: Path
) -> None:
    with made(workspace, tmp_path, "slave", STORE="sqlite:/tmp/webhooks") as slave:
        slave.start()
        assert slave.pid
        slave._process.wait(30)  # type: ignore[union-attr]  # it was started
        assert "are lost when an instance of Cloud Run ends" in slave.log.read_text()
