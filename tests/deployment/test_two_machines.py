"""The guide for two machines: its commands are accepted, and nginx accepts its configuration."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.missing import give_up
from tests.unit.test_command_help import check_arguments

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "two-machines.md").read_text()


def read_blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE, re.M | re.S)


def test_the_commands_are_accepted() -> None:
    text = "\n".join(read_blocks("sh")).replace("\\\n", " ")
    lines = [line for line in text.splitlines() if re.search(r"(^| )webhook-sync [a-z]", line)]
    assert len(lines) == 5
    for line in lines:
        check_arguments(shlex.split(line[line.index("webhook-sync ") :])[1:])


def test_the_files_exist() -> None:
    unit = ROOT / "containers" / "systemd" / "webhook-sync@.service"
    assert f"containers/systemd/{unit.name}" in GUIDE
    text = unit.read_text()
    for fact in (
        "/opt/webhook-sync/bin/",
        "/etc/webhook-sync/%i.env",
        "StateDirectory=webhook-sync/%i",
    ):
        assert fact in text
    assert "sqlite:/var/lib/webhook-sync/slave" in GUIDE


def test_nginx_accepts_the_configuration(tmp_path: Path) -> None:
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    openssl = shutil.which("openssl")
    if nginx is None or openssl is None:
        give_up("no nginx or openssl: run `apt-get install nginx-light openssl`")
    (block,) = read_blocks("nginx")
    certificate, key = tmp_path / "slave.example.pem", tmp_path / "slave.example.key"
    subject = ("-subj", "/CN=slave.example", "-nodes", "-days", "1")
    files = ("-out", str(certificate), "-keyout", str(key))
    make = [str(openssl), "req", "-x509", "-newkey", "rsa:2048", *subject, *files]
    subprocess.run(make, check=True, capture_output=True)
    http = block.replace("/etc/ssl", str(tmp_path))
    file = tmp_path / "nginx.conf"
    file.write_text(f"pid {tmp_path}/pid;\nevents {{}}\nhttp {{\naccess_log off;\n{http}}}\n")
    done = subprocess.run(
        [str(nginx), "-t", "-e", str(tmp_path / "error.log"), "-c", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    if "Permission denied" in done.stderr:
        pytest.skip("nginx may not write its folders here")
    assert done.returncode == 0, done.stderr
