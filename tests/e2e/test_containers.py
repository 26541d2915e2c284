"""The images, built and run without a container daemon: ``make containers`` shows the figures.

``containers/local-base.sh`` makes the base image. Where it cannot (no root, missing tools), the
tests are skipped, except in CI, where that is a failure.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import time
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from portable_core.demo.processes import find_free_port
from portable_core.settings import Role
from tests.support.missing import give_up

pytestmark = pytest.mark.timeout(900)

ROOT = Path(__file__).parents[2]
TOKEN = "a-token-for-tests"
VERSION = "0.0.test"
_CANNOT = 3  # the script's exit code where it cannot work here
_STOP_S = 10.0  # a platform's patience


class Images:
    """The images of both roles, and how to call podman."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = {**os.environ, **environment}
        self.seconds: dict[Role, float] = {}
        for role in ("slave", "master"):
            begun = time.monotonic()
            dockerfile = ROOT / "containers" / role / "Dockerfile"
            command = ["buildah", "build", *shlex.split(environment["BUILD_FLAGS"])]
            command += ["--build-arg", f"VERSION={VERSION}", "--build-arg", "REVISION=abc"]
            self.run([*command, "-t", f"test-{role}", "-f", str(dockerfile), str(ROOT)])
            self.seconds["master" if role == "master" else "slave"] = time.monotonic() - begun

    def podman(self, *arguments: str) -> str:
        return self.run(["podman", *arguments])

    def size(self, name: str) -> int:
        return int(self.podman("image", "inspect", "--format", "{{.Size}}", name))

    def run(self, command: list[str]) -> str:
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}\n{done.stderr}"
        return done.stdout.strip()


class Container:
    """One container of one image: root file system read-only, ``/data`` a volume of its own."""

    def __init__(self, images: Images, role: Role, **environment: str) -> None:
        self._images = images
        self._role = role
        self.port = find_free_port()
        self._environment = {"SYNC_TOKENS": TOKEN, "PORT": str(self.port), **environment}
        self.volume = f"test-{role}-{uuid.uuid4().hex[:8]}"
        self.name = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> float:
        """Start a new container on the same volume; returns after how many seconds it was well."""
        self.name = f"{self.volume}-{uuid.uuid4().hex[:8]}"
        settings = [f"--env={name}={value}" for name, value in self._environment.items()]
        begun = time.monotonic()
        self._images.podman(
            *("run", "--detach", "--name", self.name, "--read-only", "--read-only-tmpfs=false"),
            *("--cap-drop=all", "--volume", f"{self.volume}:/data", *settings),
            f"test-{self._role}",
        )
        while True:
            with contextlib.suppress(OSError):
                with urllib.request.urlopen(f"{self.url}/health", timeout=5) as answer:
                    assert answer.status == 200
                return time.monotonic() - begun
            assert time.monotonic() - begun < 30, self.read_log()
            time.sleep(0.02)

    def stop(self) -> tuple[int, float, str]:
        """SIGTERM. Returns the exit code, the seconds that it took, and what it had logged."""
        begun = time.monotonic()
        self._images.podman("kill", "--signal=TERM", self.name)
        code = int(self._images.podman("wait", self.name))
        seconds = time.monotonic() - begun
        log = self.read_log()
        self._images.podman("rm", self.name)
        self.name = ""
        return code, seconds, log

    def read_log(self) -> str:
        """Both streams of output."""
        done = subprocess.run(
            ["podman", "logs", self.name],
            env=self._images.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=True,
        )
        return done.stdout

    def remove(self) -> None:
        if self.name:
            self._images.podman("rm", "--force", "--time=0", self.name)
        self._images.podman("volume", "rm", "--force", self.volume)

    def ask(self, method: str, path: str, body: bytes | None = None) -> Any:
        request = urllib.request.Request(self.url + path, body, method=method)
        request.add_header("Authorization", f"Bearer {TOKEN}")
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def run(self, code: str) -> str:
        """Run Python inside it."""
        return self._images.podman("exec", self.name, "python3", "-c", code)


@pytest.fixture(scope="module")
def images() -> Images:
    done = subprocess.run(
        [ROOT / "containers" / "local-base.sh"], capture_output=True, text=True, check=False
    )
    if done.returncode == _CANNOT:
        give_up(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    return Images(dict(re.findall(r"^export (\w+)='(.*)'$", done.stdout, re.MULTILINE)))


@contextlib.contextmanager
def made(images: Images, role: Role, **environment: str) -> Iterator[Container]:
    container = Container(images, role, **environment)
    try:
        yield container
    finally:
        container.remove()


def test_a_webhook_goes_from_container_to_container_and_outlives_both(images: Images) -> None:
    with (
        made(images, "slave", SPAN_S="2") as slave,
        made(images, "master", SPAN_S="2", SLAVES=f"alpha=http://127.0.0.1:{slave.port}") as master,
    ):
        starts = {slave.volume: slave.start(), master.volume: master.start()}
        for number in range(50):
            slave.ask("POST", "/webhook/test", b'{"number":%d}' % number)
        check_confinement(slave)
        time.sleep(2.1)
        report = master.ask("POST", "/trigger-sync")
        assert report["ok"], report
        assert report["slaves"][0]["saved"] == 50

        stops = {}
        for container in (slave, master):
            code, seconds, log = container.stop()
            assert code == 0, log
            assert seconds < _STOP_S
            assert "Killing" not in log
            lines = [json.loads(line) for line in log.splitlines()]
            assert all({"severity", "message", "time"} <= line.keys() for line in lines)
            assert TOKEN not in log
            stops[container.volume] = seconds

        again = [container.start() for container in (slave, master)]
        for container in (slave, master):
            assert container.ask("GET", "/status")["store"]["records"] == 50
        assert master.ask("POST", "/trigger-sync")["slaves"][0]["saved"] == 0
        for container in (slave, master):
            assert container.stop()[0] == 0
        show(images, starts, stops, again)


def check_confinement(container: Container) -> None:
    """Not root, no capabilities, nothing writable but ``/data``, and no shell before the node."""
    told = json.loads(
        container.run(
            "import json, os, pathlib\n"
            "status = pathlib.Path('/proc/1/status').read_text()\n"
            "def writable(path):\n"
            "    try: open(path + '/probe', 'w').close()\n"
            "    except OSError: return False\n"
            "    os.unlink(path + '/probe'); return True\n"
            "print(json.dumps({'uid': os.getuid(), 'status': status,"
            " 'first': pathlib.Path('/proc/1/cmdline').read_text().split('\\0'),"
            " 'writable': [p for p in ('/', '/tmp', '/opt/node', '/data') if writable(p)]}))"
        )
    )
    assert told["uid"] == 65532
    assert re.search(r"^CapEff:\s+0+$", told["status"], re.MULTILINE)
    assert re.search(r"^CapPrm:\s+0+$", told["status"], re.MULTILINE)
    assert told["writable"] == ["/data"]
    assert "sh" not in {Path(part).name for part in told["first"]}
    assert told["first"][2:5] == ["serve", "--role", "slave"]


def show(
    images: Images, starts: dict[str, float], stops: dict[str, float], again: list[float]
) -> None:
    base = images.size("localhost/python:3.11-slim")
    for role, seconds in images.seconds.items():
        size = images.size(f"test-{role}")
        print(
            f"\n{role}: {size / 1e6:.0f} MB, of which the base image {base / 1e6:.0f} MB;"
            f" built in {seconds:.0f} s",
            end="",
        )
    for what, figures in (("start", starts), ("stop", stops)):
        listed = ", ".join(f"{seconds:.2f} s" for seconds in figures.values())
        print(f"\n{what}: {listed}", end="")
    print(f"\nstart on a volume with data: {', '.join(f'{seconds:.2f} s' for seconds in again)}")


def test_an_image_names_its_version(images: Images) -> None:
    for role in ("slave", "master"):
        labels = json.loads(
            images.podman("image", "inspect", "--format", "{{json .Labels}}", f"test-{role}")
        )
        named = {name.rpartition(".")[2]: value for name, value in labels.items()}
        assert (named["version"], named["revision"]) == (VERSION, "abc")
        assert (named["title"], named["licenses"]) == (f"webhook-sync {role}", "MIT")


def test_a_wrong_setting_stops_the_start_with_one_line(images: Images) -> None:
    done = subprocess.run(
        ["podman", "run", "--rm", "--env=SYNC_TOKENS=x", "--env=SPAN_S=soon", "test-slave"],
        env=images.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert done.stderr.strip().endswith("SPAN_S: must be a number of seconds (got 'soon')")
    assert len(done.stderr.strip().splitlines()) == 1


def wait_for_port(port: int) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


@contextlib.contextmanager
def run_registry(folder: Path) -> Iterator[str]:
    """Run an image registry on a loopback port; yield its address."""
    if shutil.which("docker-registry") is None:
        give_up("no registry: run `apt-get install docker-registry`")
    address = f"127.0.0.1:{find_free_port()}"
    settings = {
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {"addr": address},
    }
    file = folder / "registry.yml"
    file.write_text(json.dumps(settings))  # YAML has JSON in it
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(["docker-registry", "serve", file], stdout=log, stderr=log)
    try:
        wait_for_port(int(address.rpartition(":")[2]))
        yield address
    finally:
        process.terminate()
        process.wait()


def test_the_base_is_pinned_by_the_digest_of_its_registry(images: Images, tmp_path: Path) -> None:
    with run_registry(tmp_path) as address:
        name = f"{address}/python:3.11-slim"
        images.podman("push", "--quiet", "--tls-verify=false", "localhost/python:3.11-slim", name)
        file = tmp_path / "registries.conf"
        file.write_text(f'[[registry]]\nlocation = "{address}"\ninsecure = true\n')
        images.environment |= {"CONTAINERS_REGISTRIES_CONF": str(file), "ENGINE": "podman"}
        pinned = images.run([str(ROOT / "containers" / "pin-base.sh"), name])
        accept = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
        address = f"http://{address}/v2/python/manifests/3.11-slim"
        with urllib.request.urlopen(urllib.request.Request(address, headers=accept)) as answer:
            assert pinned.partition("@")[2] == answer.headers["Docker-Content-Digest"]
        dockerfile = tmp_path / "Dockerfile"
        dockerfile.write_text("ARG BASE\nFROM ${BASE}\n")
        build = ["buildah", "build", "--build-arg", f"BASE={pinned}", "-f", str(dockerfile)]
        images.run([*build, "-t", "test-pinned", str(tmp_path)])
        images.podman("rmi", "--force", "test-pinned", name)
