"""docs/two-machines.md on two machines with systemd, from nothing to the end: ``make guide``.

The commands and the files are those of the page. Three things differ from a reader's machines, to
save minutes or because there is no Internet here: pip finds the packages in a folder, the proxies
have certificates of an authority of the test, and spans, intervals and delays last seconds.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.certificates import make_certificates
from tests.support.deployment.machines import Machine, find_base
from tests.support.deployment.pages import ROOT, TWO_MACHINES, read_page

pytestmark = [pytest.mark.deep, pytest.mark.timeout(1200)]

FAST = "SPAN_S=2\nSYNC_EVERY_S=1\n"
HOSTS = "127.0.0.1 localhost {0}\n192.0.2.1 slave.example\n192.0.2.2 master.example\n"
PIP = "[global]\nno-index = true\nfind-links = /srv/wheels\n"
PATIENCE_S = 60

#: Prints the response to a request, or the error.
ASK = """
import sys, urllib.request
try:
    print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())
except OSError as error:
    print(error)
"""


def run_tool(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def find_wheels(cache: Path) -> Path:
    """Return a folder with the packages of both files of requirements."""
    files = [ROOT / name for name in ("requirements.txt", "requirements-build.txt")]
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]
    folder = cache / f"wheels-{digest}"
    if not folder.exists():
        new = folder.with_suffix(".new")
        shutil.rmtree(new, ignore_errors=True)
        for file in files:
            pip = (sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes")
            run_tool(*pip, "--requirement", file, "--dest", new)
        new.rename(folder)
    return folder


def list_files() -> list[str]:
    """Return the files of the repository, with those that are new."""
    listing = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    done = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


class Pair:
    """Both machines, connected, with a proxy each, and nothing of the project but its sources."""

    def __init__(self, folder: Path) -> None:
        base = find_base()
        wheels = find_wheels(base.parent)
        authority = make_certificates(folder / "certificates", "slave.example", "master.example")
        self.slave = Machine(base, folder / "slave", "slave", without=["nginx.service"])
        other = ["caddy.service", "prometheus.service"]
        self.master = Machine(base, folder / "master", "master", without=other)
        for machine in self.both:
            upper = folder / machine.name / "upper"
            machine.write("/etc/hosts", HOSTS.format(machine.name))
            machine.write("/etc/hostname", f"{machine.name}\n")
            machine.write("/etc/pip.conf", PIP)
            shutil.copytree(wheels, upper / "srv/wheels")
            for name in list_files():
                target = upper / "home/admin/webhook-sync" / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, target)
            for path in (folder / "certificates").iterdir():
                machine.write(f"/etc/ssl/{path.name}", path.read_text())
            machine.write("/usr/local/share/ca-certificates/test.crt", authority.read_text())
        run_tool("chown", "-R", "1000:1000", *(folder.glob("*/upper/home/admin")))

    @property
    def both(self) -> tuple[Machine, Machine]:
        return self.slave, self.master

    def start(self) -> None:
        for machine in self.both:
            machine.start()
        self.connect()
        self.on_both("sudo update-ca-certificates && sudo chmod 644 /etc/ssl/*.key")

    def connect(self) -> None:
        self.slave.connect(self.master, "192.0.2.1", "192.0.2.2")

    def on_both(self, script: str) -> None:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda machine: machine.run(script), self.both))


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    pair = Pair(tmp_path)
    try:
        pair.start()
        yield pair
    finally:
        for machine in pair.both:
            machine.cut_power()


def put(machine: Machine, path: str, text: str) -> None:
    machine.run(f"sudo tee {path} >/dev/null <<'END'\n{text}END\n")


def wait_for(machine: Machine, command: str, pattern: str) -> str:
    """Run a command until its output has the pattern."""
    deadline = time.monotonic() + PATIENCE_S
    while not re.search(pattern, output := machine.run(command)):
        assert time.monotonic() < deadline, f"{command}:\n{output}\nlacks {pattern}"
        time.sleep(0.5)
    return output


def read_alerts(machine: Machine) -> set[tuple[str, str]]:
    """Return names and instances of the alerts that fire."""
    output = machine.run(f"python3 -c '{ASK}' http://localhost:9090/api/v1/alerts")
    if not output.startswith("{"):
        return {("Prometheus does not listen", "")}
    document = json.loads(output)
    return {
        (alert["labels"]["alertname"], alert["labels"]["instance"])
        for alert in document["data"]["alerts"]
        if alert["state"] == "firing"
    }


def wait_for_alerts(machine: Machine, wanted: set[tuple[str, str]]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while (alerts := read_alerts(machine)) != wanted:
        assert time.monotonic() < deadline, alerts
        time.sleep(0.5)


def test_the_page_ends_with_a_recovered_webhook(pair: Pair) -> None:
    page = read_page(TWO_MACHINES)
    slave, master = pair.both
    begun = time.monotonic()

    def note(text: str) -> None:
        print(f"{time.monotonic() - begun:5.1f} s  {text}")

    pair.on_both(page["On both machines"].sh[0])
    note("installed")
    slave.run(page["On the slave"].sh[0])
    slave.run(f"echo '{FAST}' | sudo tee -a /etc/webhook-sync/slave.env")
    slave.run("sudo systemctl restart webhook-sync@slave.service")
    settings = slave.run("sudo cat /etc/webhook-sync/slave.env")
    put(master, "slave.env", settings)
    begin, enable = page["On the master"].sh[0].rsplit("\n", 2)[:2]
    master.run(begin)
    master.run("rm -f slave.env")
    master.run(
        f"sudo sed -i /SYNC_EVERY/d /etc/webhook-sync/master.env; "
        f"echo '{FAST}' | sudo tee -a /etc/webhook-sync/master.env"
    )
    master.run(enable)
    put(slave, "/etc/caddy/Caddyfile", give_certificate(page["TLS"].blocks["caddyfile"]))
    slave.run("sudo systemctl reload caddy")
    put(master, "/etc/nginx/conf.d/webhook-sync.conf", page["TLS"].blocks["nginx"])
    master.run("sudo systemctl reload nginx")
    for machine in pair.both:
        name = f"webhook-sync@{machine.name}.service"
        assert machine.run(f"systemctl is-active {name}; systemctl is-enabled {name}").split() == [
            "active",
            "enabled",
        ]
    note("started")
    for name in ("slave", "master"):
        wait_for(master, f"python3 -c '{ASK}' https://{name}.example/health", '"status":"ok"')
    print(master.run(page["Check"].sh[0]))
    note("checked")

    install = page["Alerts"].sh[0]
    slave.run(install.replace("sudo systemctl restart", f"{quicken}\nsudo systemctl restart"))
    wait_for_alerts(slave, set())
    note("no alert fires")

    # The power of the master's machine fails. Its service starts again with the machine.
    stop, send, start = page["Try an outage"].sh
    assert "systemctl stop" in stop
    master.cut_power()
    slave.run(send)
    wait_for_alerts(slave, {("WebhookSyncDown", "master.example:443")})
    note("an alert fires")
    master.start()
    pair.connect()
    found = wait_for(master, start, r"\bhub\b")
    note("the webhook is in the master")
    print(found)
    wait_for_alerts(slave, set())
    note("the alert is gone")

    backup, restore = page["Backup"].sh
    master.run(backup)
    master.run(restore)
    for name in ("slave", "master"):
        wait_for(master, f"python3 -c '{ASK}' https://{name}.example/health", '"status":"ok"')
    assert "hub" in master.run("webhook-sync webhooks list")
    print(master.run(page["Check"].sh[0]))
    note("the backup is restored")


def give_certificate(caddyfile: str) -> str:
    """Name the certificate of the test, which Caddy else fetches."""
    line = "    tls /etc/ssl/slave.example.pem /etc/ssl/slave.example.key\n"
    return re.sub(r"(?<=\{\n)", line, caddyfile, count=1)


#: Minutes become seconds in the files of Prometheus.
quicken = (
    "sudo sed -i -E 's/scrape_interval: .*/scrape_interval: 1s\\n  evaluation_interval: 1s/' "
    "/etc/prometheus/prometheus.yml\n"
    "sudo sed -i -E 's/for: 2m/for: 1s/' /etc/prometheus/alerts.yml"
)
