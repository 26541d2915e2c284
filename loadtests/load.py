"""``make load``: the Locust scenario against a master and three slaves on this machine."""

from __future__ import annotations

import argparse
import html
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from portable_core.demo.cluster import SPAN_S, Cluster

_ROOT = Path(__file__).parents[1]

#: The secrets of the local nodes' sources, for the scenario ``mixed``.
_SOURCES = (
    "github=github:load-secret,stripe=stripe:whsec_load,"
    "standard=standard:whsec_bG9hZC10ZXN0LXNlY3JldC1vZi0yNC1ieXRlcw==,"
    "other=hmac-sha256@X-Other-Signature:load-secret"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip())
    parser.add_argument("--slaves", type=int, default=3)
    parser.add_argument("--users", type=int, default=60, help="webhooks on their way at once")
    parser.add_argument("--scenario", default="steady")
    parser.add_argument("--max-p99", type=float, default=2000, help="ms; above it the run fails")
    parser.add_argument("--out", type=Path, default=_ROOT / "reports")
    parser.add_argument("rest", nargs="*", help="more options for Locust, after --")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="load-", dir=options.out))
    env = {"SOURCES": _SOURCES} if options.scenario == "mixed" else {}
    cluster = Cluster(folder, options.slaves, env)
    report = options.out / f"load-{options.scenario}"
    command = [
        *(sys.executable, "-m", "locust", "-f", str(_ROOT / "loadtests" / "locustfile.py")),
        *("--headless", "--only-summary", "-u", str(options.users), "-r", str(options.users)),
        *("--html", f"{report}.html", "--csv", str(report), "--verdict", f"{report}.json"),
        *("--plots", str(report), "--max-p99", str(options.max_p99)),
        *("--nodes", ",".join(f"{node.name}={node.url}" for node in cluster.nodes)),
        *("--sync-token", cluster.token, "--span", str(SPAN_S), "--sync-every", "4"),
        *("--seed", "1"),
        *("--master-store", cluster.master.env["STORE"], "--scenario", options.scenario),
        *(("--secrets", _SOURCES) if options.scenario == "mixed" else ()),
        *options.rest,
    ]
    try:
        cluster.start()
        code = subprocess.run(
            command, cwd=_ROOT, env={**os.environ, "PYTHONPATH": str(_ROOT)}
        ).returncode
    finally:
        codes = cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)
    _complete(report)
    print(f"report: {report}.html; the nodes' exit codes: {codes}")
    sys.exit(code or any(codes.values()))


def _complete(report: Path) -> None:
    """Add the judgement and the plots to Locust's page."""
    page, verdict = Path(f"{report}.html"), Path(f"{report}.json")
    if not (page.exists() and verdict.exists()):
        return
    images = "".join(
        f'<p><img src="{report.name}-{plot}.png" style="max-width: 100%"></p>'
        for plot in ("latency", "recovery")
    )
    more = f"<h2>The judgement</h2><pre>{html.escape(verdict.read_text())}</pre>{images}"
    style = "background: white; color: black; padding: 1em 3em"
    # Its scripts hold the same words.
    before, end, after = page.read_text().rpartition("</body>")
    page.write_text(f'{before}<div style="{style}">{more}</div>{end}{after}')


if __name__ == "__main__":
    main()
