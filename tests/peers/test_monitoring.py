"""Alert rules and dashboard against the metrics as they are, and each alert against Prometheus itself (promtool)."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client import generate_latest

from dicom_peers import program
from ovcf_node.config import Settings
from ovcf_node.domain.findings import BundleIdentity
from ovcf_node.ledger import Ledger, migrate
from ovcf_node.operate.metrics import NodeCollector, registry

MONITORING = Path(__file__).resolve().parents[2] / "deploy" / "monitoring"
RULES = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"][0]["rules"]
DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text())
GIB = 2**30

# name -> (series that must fire it, series that must not), values as promtool writes them; one sample a minute.
CASES = {
    "OvcfNodeUnreachable": ({'up{job="ovcf-node"}': "0x10"}, {'up{job="ovcf-node"}': "1x10"}),
    "OvcfLedgerDown": ({"ovcf_node_ledger_up": "0x10"}, {"ovcf_node_ledger_up": "1x10"}),
    "OvcfJudgeDown": ({"ovcf_node_judge_up": "0x10"}, {"ovcf_node_judge_up": "1x10"}),
    "OvcfRoleDown": ({'ovcf_node_role_up{role="receiver"}': "0x20"}, {'ovcf_node_role_up{role="receiver"}': "1x20"}),
    "OvcfProcessDown": ({'ovcf_node_process_up{process="worker-0"}': "0x10"},
                        {'ovcf_node_process_up{process="worker-0"}': "1x10"}),
    "OvcfBundleUnreadable": ({'ovcf_node_build_info{version="1"}': "1x10"},
                             {'ovcf_node_build_info{version="1"}': "1x10", 'ovcf_node_bundle_info{name="b"}': "1x10"}),
    "OvcfDiskBelowWatermark": (
        {"ovcf_node_disk_free_bytes": f"{GIB}x10", "ovcf_node_disk_watermark_bytes": f"{2 * GIB}x10"},
        {"ovcf_node_disk_free_bytes": f"{9 * GIB}x10", "ovcf_node_disk_watermark_bytes": f"{2 * GIB}x10"},
    ),
    "OvcfDiskUnknown": ({'ovcf_node_build_info{version="1"}': "1x10"},
                        {'ovcf_node_build_info{version="1"}': "1x10", "ovcf_node_disk_free_bytes": f"{GIB}x10"}),
    "OvcfDiskFillsUp": (  # 100 GiB free and 0.1 GiB less every minute; not when nothing changes
        {"ovcf_node_disk_free_bytes": f"{100 * GIB}-{GIB // 10}x400", "ovcf_node_disk_watermark_bytes": f"{2 * GIB}x400"},
        {"ovcf_node_disk_free_bytes": f"{100 * GIB}x400", "ovcf_node_disk_watermark_bytes": f"{2 * GIB}x400"},
    ),
    "OvcfScannerSilent": ({'ovcf_node_last_receipt_timestamp_seconds{calling_ae_title="CT"}': f"{-80 * 3600}x20"},
                          {'ovcf_node_last_receipt_timestamp_seconds{calling_ae_title="CT"}': "0x20"}),
    "OvcfSeriesWaits": ({'ovcf_node_queue_oldest_seconds{stage="reading",priority="stat"}': "901x10"},
                        {'ovcf_node_queue_oldest_seconds{stage="waiting",priority="stat"}': "901x10"}),
    "OvcfStudyHeld": ({"ovcf_node_held_studies": "1x20"}, {"ovcf_node_held_studies": "0x20"}),
    "OvcfSeriesFailed": ({'ovcf_node_series{state="FAILED",reason="encode"}': "1x5"},
                         {'ovcf_node_series{state="FAILED",reason=""}': "0x5"}),
    "OvcfTechnicalFailures": (
        {'ovcf_node_answered_series{window="1h",state="NOT_ASSESSED",reason="technical_failure"}': "1x5"},
        {'ovcf_node_answered_series{window="24h",state="NOT_ASSESSED",reason="technical_failure"}': "7x5",
         'ovcf_node_answered_series{window="1h",state="NOT_ASSESSED",reason="technical_failure"}': "0x5"},
    ),
    "OvcfManyNotAssessed": (
        {'ovcf_node_answered_series{window="24h",state="NOT_ASSESSED",reason="metal"}': "30x40",
         'ovcf_node_answered_series{window="24h",state="ENCODED",reason=""}': "20x40"},
        {'ovcf_node_answered_series{window="24h",state="NOT_ASSESSED",reason="metal"}': "30x40",
         'ovcf_node_answered_series{window="24h",state="ENCODED",reason=""}': "90x40"},
    ),
    "OvcfDeliveryStuck": ({'ovcf_node_delivery_oldest_pending_seconds{destination="pacs"}': "1801x10"},
                          {'ovcf_node_delivery_oldest_pending_seconds{destination="pacs"}': "0x10"}),
    "OvcfDeliveryRejected": ({'ovcf_node_deliveries{destination="pacs",state="REJECTED"}': "1x5"},
                             {'ovcf_node_deliveries{destination="pacs",state="ACCEPTED"}': "9x5"}),
    "OvcfTurnaroundSlow": ({'ovcf_node_turnaround_seconds{destination="pacs",quantile="0.95"}': "700x20"},
                           {'ovcf_node_turnaround_seconds{destination="pacs",quantile="1"}': "700x20"}),
    "OvcfAuditWaits": ({"ovcf_node_audit_oldest_seconds": "3700x20"}, {"ovcf_node_audit_oldest_seconds": "0x20"}),
}


def expressions() -> list[str]:
    panels = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]
    return [rule["expr"] for rule in RULES] + panels


@pytest.fixture(scope="module")
def exposed(tmp_path_factory) -> str:
    """Return what a node says that has had one of everything."""
    folder = tmp_path_factory.mktemp("node")
    url = f"sqlite:///{folder / 'ledger.sqlite'}"
    migrate(url)
    settings = Settings(node={"data": folder}, destinations=[{"name": "pacs", "type": "folder", "path": folder}],
                        audit={"host": "127.0.0.1", "tls": False})
    ledger = Ledger(url)
    text = generate_latest(registry(
        NodeCollector(settings, ledger, lambda: BundleIdentity("reference", "1", "d", "research"))
    )).decode()
    ledger.close()
    return text


def test_every_metric_that_is_named_exists(exposed):
    known = set(re.findall(r"^# TYPE (\w+) ", exposed, re.MULTILINE))
    named = {name for text in expressions() for name in re.findall(r"\bovcf_node_\w+", text)}
    assert len(named) > 15 and named <= known


def test_every_alert_has_its_page_and_its_case():
    pages = re.findall(r"^## (Ovcf\w+)$", (MONITORING / "ALERTS.md").read_text(), re.MULTILINE)
    assert pages == [rule["alert"] for rule in RULES] == list(CASES)


@pytest.mark.peer
def test_metrics_are_what_prometheus_expects(exposed):
    lint = subprocess.run(
        [program("promtool"), "check", "metrics"], input=exposed, capture_output=True, text=True, timeout=60
    )
    assert lint.returncode == 0, lint.stderr


@pytest.mark.peer
def test_every_expression_of_the_dashboard_is_promql(tmp_path):
    rules = [{"record": f"panel:{i}", "expr": text.replace("$__rate_interval", "5m")}
             for i, text in enumerate(expressions())]
    path = tmp_path / "panels.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = subprocess.run([program("promtool"), "check", "rules", str(path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.peer
def test_each_alert_fires_when_it_should_and_only_then(tmp_path):
    tests = []
    for name, cases in CASES.items():
        for series, fires in zip(cases, (1, None), strict=True):
            minutes = max(sum(int(n) for n in re.findall(r"x(\d+)", values)) for values in series.values())
            samples = [{"value": 1, "labels": "{}"}] if fires else []
            tests.append({
                "interval": "1m", "input_series": [{"series": key, "values": value} for key, value in series.items()],
                "promql_expr_test": [{
                    "expr": f'count(ALERTS{{alertname="{name}",alertstate="firing"}})', "eval_time": f"{minutes}m",
                    "exp_samples": samples,
                }],
            })
    path = tmp_path / "alerts_test.yml"
    path.write_text(yaml.safe_dump(
        {"rule_files": [str(MONITORING / "alerts.yml")], "evaluation_interval": "1m", "tests": tests}
    ))
    done = subprocess.run([program("promtool"), "test", "rules", str(path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
