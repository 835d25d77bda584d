"""Compose file, Helm chart and systemd unit, each checked by the program or schema that will read it."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from absent import absent
from dicom_peers import program
from ovcf_node.config import ROLES, Settings, load

REPOSITORY = Path(__file__).resolve().parents[2]
DEPLOY = REPOSITORY / "deploy"
CHART = DEPLOY / "helm" / "ovcf-node"
MULTIPLE = ("receiver", "worker", "sender")  # any number of each
DRAIN_S = 30  # what `serve` gives its processes

pytestmark = pytest.mark.peer

EVERYTHING = {
    "query": {"enabled": True}, "web": {"enabled": True},
    "image": {"tag": "sha256:" + "0" * 64, "pullSecrets": ["registry"]},
    "storage": {"existingClaim": "pacs-data"}, "nodeSelector": {"zone": "imaging"},
    "tolerations": [{"key": "imaging", "operator": "Exists"}], "podAnnotations": {"example.org/a": "b"},
    "networkPolicy": {
        "dicomFrom": [{"ipBlock": {"cidr": "192.0.2.0/24"}}], "webFrom": [{"ipBlock": {"cidr": "198.51.100.0/24"}}],
        "to": [{"to": [{"ipBlock": {"cidr": "192.0.2.20/32"}}], "ports": [{"protocol": "TCP", "port": 104}]}],
    },
}

ENCRYPTED = EVERYTHING | {"tls": {"enabled": True, "crlKey": "ca.crl", "keyPasswordKey": "password"}}
BOTH = {"tls": {"enabled": True, "plain": True}, "query": {"enabled": True}}


def checked(*arguments: str) -> object:
    """Return what the checkers print; skip without them, fail under CI."""
    python = Path(os.environ.get("OVCF_DEPLOY_PYTHON", REPOSITORY / ".venv-deploy" / "bin" / "python"))
    if not python.exists():
        absent("the checkers are not installed: make .venv-deploy/.installed")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    checkers = Path(__file__).with_name("deploy_checkers.py")
    done = subprocess.run([python, checkers, *arguments], capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-2000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def compose() -> dict:
    return checked("compose", str(DEPLOY / "compose.yaml"))


@pytest.fixture(scope="module", params=[{}, EVERYTHING, ENCRYPTED, BOTH], ids=["defaults", "everything", "tls", "both"])
def manifests(request) -> list[dict]:
    return checked("helm", str(CHART), json.dumps(request.param))


def of_kind(manifests: list[dict], kind: str) -> dict[str, dict]:
    return {m["metadata"]["name"].removeprefix("hospital-"): m for m in manifests if m["kind"] == kind}


def test_compose_runs_ours_without_rights_and_lets_them_drain(compose):
    ours = {name: s for name, s in compose["services"].items() if s["image"].startswith("ovcf-node")}
    assert set(ours) == {"node", *MULTIPLE}
    for service in ours.values():
        assert service["read_only"] and service["cap_drop"] == ["ALL"] and service["ulimits"] == {"core": 0}
        assert service["security_opt"] == ["no-new-privileges:true"] and service["init"]
        assert int(service["stop_grace_period"].removesuffix("s")) > DRAIN_S
    assert all(ours[role]["deploy"]["replicas"] >= 2 for role in MULTIPLE)


def test_scanners_reach_the_receivers_of_the_cluster_through_the_balancer(compose):
    services = {name: service for name, service in compose["services"].items() if "cluster" in service["profiles"]}
    published = {name: service["ports"] for name, service in services.items() if service.get("ports")}
    assert published == {"balancer": ["127.0.0.1:11112:11112"], "orthanc": ["127.0.0.1:8042:8042"]}
    [volume] = services["balancer"]["volumes"]
    configuration = (DEPLOY / "compose.yaml").parent / volume.split(":")[0]
    assert configuration.read_text().count("receiver:11112") == 1
    done = subprocess.run([program("haproxy"), "-c", "-f", str(configuration)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_compose_publishes_on_loopback_only_and_hands_secrets_over_as_files(compose):
    for service in compose["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    cluster = compose["services"]["receiver"]
    assert not [v for v in cluster["environment"].values() if "://" in v]
    assert "database-url" in cluster["secrets"]


def test_configuration_of_the_trial_loads():
    assert [d.name for d in load(DEPLOY / "compose.toml").destinations] == ["orthanc"]


def test_the_chart_has_a_deployment_for_each_process(manifests):
    deployments = of_kind(manifests, "Deployment")
    assert {"receiver", "worker", "sender"} <= set(deployments) <= set(ROLES)
    for role, deployment in deployments.items():
        assert deployment["spec"]["template"]["spec"]["containers"][0]["args"] == ["run", role]
        assert deployment["spec"]["replicas"] == (2 if role in MULTIPLE else 1)
    assert set(of_kind(manifests, "PodDisruptionBudget")) == set(MULTIPLE)


def test_the_chart_can_be_stopped_for_a_restore():
    roles = {role: {"replicas": 0} for role in ROLES}
    roles["query"]["enabled"] = roles["web"]["enabled"] = True
    deployments = of_kind(checked("helm", str(CHART), json.dumps(roles)), "Deployment")
    assert set(deployments) == set(ROLES) and {d["spec"]["replicas"] for d in deployments.values()} == {0}


def test_a_reading_ends_before_its_container_does(manifests):
    [container] = of_kind(manifests, "Deployment")["worker"]["spec"]["template"]["spec"]["containers"]
    [reading] = [int(e["value"]) for e in container["env"] if e["name"] == "OVCF_NODE__INFER__MEMORY_MB"]
    assert container["resources"]["limits"]["memory"] == "4Gi" and reading <= 3 * 1024


def test_services_that_check_addresses_keep_them(manifests):
    for name, service in of_kind(manifests, "Service").items():
        if service["spec"]["type"] != "ClusterIP":
            assert service["spec"]["externalTrafficPolicy"] == "Local", name


def test_pods_are_confined_and_drain(manifests):
    for deployment in of_kind(manifests, "Deployment").values():
        pod = deployment["spec"]["template"]["spec"]
        container = pod["containers"][0]
        assert pod["securityContext"]["runAsNonRoot"] and not pod["automountServiceAccountToken"]
        assert container["securityContext"] == {
            "readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]},
        }
        assert pod["terminationGracePeriodSeconds"] > DRAIN_S
        assert not [e for e in container["env"] if "://" in e.get("value", "")]
        mounted, known = {m["name"] for m in container["volumeMounts"]}, {v["name"] for v in pod["volumes"]}
        assert mounted == known


@pytest.mark.parametrize(("values", "open_ports"), [
    ({}, {"receiver": [11112], "query": [11113]}),
    (BOTH, {"receiver": [11112, 2762], "query": [11113, 2763]}),
    (ENCRYPTED, {"receiver": [2762], "query": [2763]}),
], ids=["plain", "both", "encrypted"])
def test_dicom_ports_are_open_as_tls_is_set(monkeypatch, tmp_path, values, open_ports):
    """What the chart sets is what the node opens, what the Service leads to, and what the policy lets through."""
    manifests = checked("helm", str(CHART), json.dumps(EVERYTHING | values))
    path = tmp_path / "node.toml"
    path.write_text(of_kind(manifests, "ConfigMap")["config"]["data"]["ovcf-node.toml"])
    (tmp_path / "secret").write_text("postgresql+psycopg://db/ovcf")
    services, deployments = of_kind(manifests, "Service"), of_kind(manifests, "Deployment")
    [policy] = of_kind(manifests, "NetworkPolicy").values()
    let_in = {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]}
    containers = {role: d["spec"]["template"]["spec"]["containers"][0] for role, d in deployments.items()}

    def settings_in(role: str) -> Settings:
        with monkeypatch.context() as patch:
            for variable in containers[role]["env"]:
                file = variable["name"].endswith("_FILE")
                patch.setenv(variable["name"], str(tmp_path / "secret") if file else variable["value"])
            return load(path)

    for role in deployments:  # `check` is run in the worker's pod
        settings = settings_in(role)
        assert {"receiver": list(settings.receive.ports), "query": list(settings.query.ports)} == open_ports, role
        assert settings.query.enabled
    for role, ports in open_ports.items():
        container = containers[role]
        section = {"receiver": settings_in(role).receive, "query": settings_in(role).query}[role]
        assert list(section.ports) == ports == [port["containerPort"] for port in container["ports"]]
        assert ports == [port["port"] for port in services[role]["spec"]["ports"]]
        assert {port["name"] for port in container["ports"]} <= let_in
        assert container["readinessProbe"]["tcpSocket"]["port"] == container["ports"][0]["name"]


def test_certificates_reach_every_pod_as_files_that_can_change():
    manifests = checked("helm", str(CHART), json.dumps(ENCRYPTED))
    for deployment in of_kind(manifests, "Deployment").values():
        pod = deployment["spec"]["template"]["spec"]
        [volume] = [v["secret"] for v in pod["volumes"] if v["name"] == "dicom-tls"]
        [mount] = [m for m in pod["containers"][0]["volumeMounts"] if m["name"] == "dicom-tls"]
        assert mount["readOnly"] and "subPath" not in mount  # a mounted file would stay that of the start
        there = {f"{mount['mountPath']}/{item['path']}" for item in volume["items"]}
        named = {v["value"] for v in pod["containers"][0]["env"] if v["name"].startswith("OVCF_NODE__TLS__")}
        assert named == there and len(named) == 5


def test_every_variable_in_the_chart_is_a_key(manifests, monkeypatch, tmp_path):
    secret = tmp_path / "url"
    secret.write_text("postgresql+psycopg://db/ovcf")
    for deployment in of_kind(manifests, "Deployment").values():
        for variable in deployment["spec"]["template"]["spec"]["containers"][0]["env"]:
            value = str(secret) if variable["name"].endswith("_FILE") else variable["value"]
            monkeypatch.setenv(variable["name"], value)
    path = tmp_path / "node.toml"
    path.write_text(of_kind(manifests, "ConfigMap")["config"]["data"]["ovcf-node.toml"])
    assert load(path).ledger_url == secret.read_text()


def test_selectors_find_their_pods_and_ports(manifests):
    pods = [d["spec"]["template"] for d in of_kind(manifests, "Deployment").values()]
    for service in of_kind(manifests, "Service").values():
        wanted = service["spec"]["selector"].items()
        [pod] = [pod for pod in pods if wanted <= pod["metadata"]["labels"].items()]
        names = {port["name"] for port in pod["spec"]["containers"][0]["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= names
    [policy] = of_kind(manifests, "NetworkPolicy").values()
    assert all(policy["spec"]["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items() for pod in pods)


def test_what_the_hospital_acknowledged_outlives_the_chart(manifests):
    for claim in of_kind(manifests, "PersistentVolumeClaim").values():
        assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
        assert claim["spec"]["accessModes"] == ["ReadWriteMany"]


def test_systemd_takes_the_unit_and_calls_it_well_confined(tmp_path):
    text = (DEPLOY / "ovcf-node.service").read_text()
    unit = tmp_path / "ovcf-node.service"
    unit.write_text(text.replace("/opt/ovcf-node/bin/ovcf-node", program("true")))  # it wants the program to be there
    assert not re.search(r"^ProcSubset=", text, re.MULTILINE)  # worker and sender read /proc/sys/kernel/random/boot_id
    analyze = program("systemd-analyze")
    done = subprocess.run([analyze, "verify", unit], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    # The threshold is in tenths of systemd's scale from 0 (confined) to 10.
    done = subprocess.run(
        [analyze, "security", "--offline=true", "--threshold=20", "--no-pager", unit], capture_output=True, text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout[-500:]
    assert int(re.search(r"^TimeoutStopSec=(\d+)$", text, re.MULTILINE)[1]) > DRAIN_S
