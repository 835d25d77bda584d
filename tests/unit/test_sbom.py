"""The papers about other people's software are those of the lock, and nothing in it is GPL or AGPL."""

import json
import re
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
SBOM = json.loads((REPOSITORY / "deploy" / "SBOM.cdx.json").read_text())


def licences() -> dict[str, str]:
    return {c["name"]: c["licenses"][0]["expression"] for c in SBOM["components"] if c["type"] == "library"}


def test_sbom_and_soup_are_those_of_the_lock():
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "deploy" / "sbom.py"), "--check"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_locked_package_is_listed_with_every_hash():
    lock = (REPOSITORY / "requirements.lock").read_text()
    assert set(licences()) == set(re.findall(r"^([\w.-]+)==", lock, re.MULTILINE))
    listed = {h["content"] for c in SBOM["components"] if c["type"] == "library" for h in c["hashes"]}
    assert listed == set(re.findall(r"sha256:(\w{64})", lock))


def test_copyleft_is_known_and_weak():
    found = {name: text for name, text in licences().items() if re.search(r"GPL|MPL|EUPL|CDDL|SSPL|EPL", text)}
    assert found == {"psycopg": "LGPL-3.0-only", "psycopg-binary": "LGPL-3.0-only", "certifi": "MPL-2.0"}


def test_every_dependency_is_of_something_listed():
    known = {c["bom-ref"] for c in SBOM["components"]} | {"ovcf-node"}
    assert {edge["ref"] for edge in SBOM["dependencies"]} <= known
    assert {ref for edge in SBOM["dependencies"] for ref in edge["dependsOn"]} <= known
