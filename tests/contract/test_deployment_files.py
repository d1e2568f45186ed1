"""What `deploy/` says, as far as it takes no tool to read it (`make deploy-check` has those)."""

import json
import re
from pathlib import Path

import pytest
import yaml
from django.conf import settings

from authsite.operations import metrics

pytestmark = pytest.mark.once(on="sqlite")

DEPLOY = settings.BASE_DIR / "deploy"
METRIC = re.compile(r"\bauthsite_[a-z_]+")
SAMPLES = re.compile(r"_(bucket|count|sum|total)\Z")


def test_dashboard_and_alerts_ask_for_metrics_that_there_are() -> None:
    known = set(METRIC.findall(Path(metrics.__file__).read_text()))
    dashboard = json.loads((DEPLOY / "grafana" / "authsite.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    alerts = (DEPLOY / "prometheus" / "alerts.yml").read_text()
    asked = {name for text in (*expressions, alerts) for name in METRIC.findall(text)}

    assert len(asked) > 10
    assert not [name for name in asked if not {name, SAMPLES.sub("", name)} & known]


def test_patroni_confirms_a_commit_by_standbys_only() -> None:
    config = yaml.safe_load((DEPLOY / "patroni" / "patroni.yml").read_text())
    dynamic = config["bootstrap"]["dcs"]

    assert dynamic["synchronous_mode"] is True
    assert dynamic["synchronous_mode_strict"] is True
    assert dynamic["postgresql"]["parameters"]["synchronous_commit"] == "remote_apply"
