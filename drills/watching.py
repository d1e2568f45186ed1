"""A drill of what watches: deploy/'s dashboard and alerts, on a real Prometheus with real data."""

import json
import math
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import yaml

from drills.probe import Client, Known, Probe, register
from drills.report import Report, drill, need, running, wait_until
from drills.sites import migrated, site
from tests.support import pki
from tests.support.postgres import free_port
from tests.support.servers import Server

DEPLOY = Path(__file__).resolve().parent.parent / "deploy"
CHOSEN = "drill-chosen"  # a device whose secret a person chose
ALERT = "AuthsiteDatabaseFails"
OF_AN_OUTAGE = "Database failures"  # the panel that shows nothing otherwise
VARIABLES = {"$__rate_interval": "10s", "$instance": ".*"}  # what Grafana puts in


class Prometheus:
    """Scrapes sites every second by deploy/'s configuration."""

    def __init__(self, folder: Path, targets: list[str]) -> None:
        config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["scrape_configs"][0]["static_configs"] = [{"targets": targets}]
        alerts = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())
        for rule in alerts["groups"][0]["rules"]:
            rule["for"] = "2s"  # a drill does not wait for minutes
        (folder / "alerts.yml").write_text(yaml.safe_dump(alerts))
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self.folder = folder
        self.url = f"http://127.0.0.1:{free_port()}"

    def get(self, path: str, **query: str) -> Any:
        answer = httpx.get(f"{self.url}/api/v1/{path}", params=query, timeout=5)
        return answer.raise_for_status().json()["data"]

    def values(self, expression: str) -> list[float]:
        """Return what an expression of the dashboard shows now."""
        for variable, value in VARIABLES.items():
            expression = expression.replace(variable, value)
        found = [float(row["value"][1]) for row in self.get("query", query=expression)["result"]]
        return [value for value in found if not math.isnan(value)]  # as a quantile of nothing is

    def is_up(self) -> bool:
        """Whether it has scraped a site."""
        try:
            return bool(self.values("authsite_calls_total"))
        except httpx.HTTPError:
            return False

    def firing(self) -> set[str]:
        alerts = self.get("alerts")["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    def running(self) -> AbstractContextManager[None]:
        return running(
            "prometheus",
            f"--config.file={self.folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.folder / 'prometheus'}",
            f"--web.listen-address={self.url.removeprefix('http://')}",
            log=self.folder / "prometheus.log",
        )


def panels() -> dict[str, list[str]]:
    """Return the expressions of the dashboard's panels, by title."""
    dashboard = json.loads((DEPLOY / "grafana" / "authsite.json").read_text())
    return {
        panel["title"]: [target["expr"] for target in panel["targets"]]
        for panel in dashboard["panels"]
    }


def shown(prometheus: Prometheus) -> set[str]:
    """Return the titles of the panels of which every expression shows something."""
    return {
        title
        for title, expressions in panels().items()
        if all(prometheus.values(expression) for expression in expressions)
    }


def revocation_list(server: Server, folder: Path) -> None:
    """Put a trust anchor and its revocation list in force."""
    root = pki.authority("Drill")
    (folder / "root.pem").write_text(pki.pem(root))
    (folder / "root.crl").write_bytes(pki.revocation_list(root))
    server.manage("add_trust_anchor", "drill", str(folder / "root.pem"))
    server.manage("load_crl", "drill", str(folder / "root.crl"))


def guess(client: Client, known: Known, number: int) -> None:
    """Ask with wrong secrets, of a device with a chosen one too, and about an unknown device."""
    client.ask(known._replace(secret="wrong"))
    client.ask(known._replace(identifier="never-registered"))
    client.ask(known._replace(identifier=CHOSEN, secret=f"guess {number}"))


@drill("watched by Prometheus", seconds=240)
def watched(folder: Path, report: Report) -> None:
    """Each panel of the dashboard shows what happens, and the alert of an outage fires and ends."""
    need("prometheus")
    with migrated(folder, standbys=1) as (nodes, first):
        first.manage("seed_demo", "--json")
        first.manage("add_device", CHOSEN, "--secret-stdin", stdin="chosen by a person")
        revocation_list(first, folder)
        devices = register(first, 8)
        port = free_port()
        standby = nodes.standbys[0].url()
        server = site(folder, nodes.url(), ANSWERS_URL=standby, METRICS_PORT=str(port))
        prometheus = Prometheus(folder, [f"127.0.0.1:{port}"])
        with server, prometheus.running(), Probe([server], devices) as probe:
            client, seen = Client(server), set[str]()

            def all_seen(*without: str) -> bool:
                guess(client, devices[0], len(probe.answers))
                time.sleep(0.3)
                seen.update(shown(prometheus))
                return seen >= panels().keys() - set(without)

            wait_until(prometheus.is_up, 20)
            wait_until(lambda: all_seen(OF_AN_OUTAGE), 20)
            quiet = prometheus.firing()
            for node in (nodes.standbys[0], nodes.primary):
                node.kill()
            began = time.monotonic()
            fires = wait_until(lambda: ALERT in prometheus.firing(), 30)
            report.must(fires, "no alert fired while the database was gone")
            took = time.monotonic() - began
            wait_until(all_seen, 10)
            nodes.primary.start()
            probe.await_right()
        empty = panels().keys() - seen
        report.must(not empty, f"panels without data: {sorted(empty)}")
        report.must(ALERT not in quiet, "the alert of an outage fires without one")
        report.say(
            f"{len(seen)} panels showed data; {ALERT} fired {took:.0f} s after the databases ended"
        )
        report.add(probe)
        report.counter = f"before, {len(quiet)} alerts fired"
