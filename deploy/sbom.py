"""Write deploy/SBOM.cdx.json (CycloneDX 1.6) and deploy/SOUP.md from the runtime lock, or compare with `--check`.

What is listed is what the image gets: the packages of requirements.lock with the hashes that pip enforces, and the model
bundle with the digests that the node enforces. Licences are read from the metadata of the installed wheels, so run it in the
environment that `make` installs. The output holds no time and no random number: the same lock gives the same bytes.
"""

import hashlib
import json
import re
import sys
import tomllib
import uuid
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).resolve().parent.parent
SBOM = REPOSITORY / "deploy" / "SBOM.cdx.json"
SOUP = REPOSITORY / "deploy" / "SOUP.md"

# SPDX identifiers of what wheels say in older words; a new word stops the generator, so that a person reads it.
_SPDX = {
    "MIT License": "MIT", "BSD License": "BSD-3-Clause", "3-Clause BSD License": "BSD-3-Clause", "Apache 2.0": "Apache-2.0",
    "ISC License": "ISC", "ISC License (ISCL)": "ISC", "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}

# Why each direct dependency is there, and the folder of service/ovcf_node/ where it is used.
PURPOSES = {
    "alembic": ("brings the ledger's schema up to date", "ledger"),
    "argon2-cffi": ("hashes passwords of people who sign in", "operate"),
    "dbos": ("durable scheduler of readings and deliveries", "engine"),
    "highdicom": ("builds SEG and SR objects", "report"),
    "httpx": ("HTTP client", "deliver"),
    "jinja2": ("templates of the pages", "operate"),
    "numpy": ("arrays: volumes, masks, measurements", "all stages"),
    "onnxruntime": ("runs the networks of the model bundle", "infer"),
    "pillow": ("draws the summary picture", "report"),
    "prometheus-client": ("writes the metrics", "operate"),
    "pydantic": ("checks the configuration", "config"),
    "pydantic-settings": ("reads configuration from the environment", "config"),
    "pydicom": ("reads and writes DICOM data sets", "all stages"),
    "pylibjpeg": ("decodes compressed pixels (plugin host)", "assemble"),
    "pylibjpeg-openjpeg": ("decodes JPEG 2000 pixels", "assemble"),
    "pylibjpeg-rle": ("decodes RLE pixels", "assemble"),
    "pynetdicom": ("DICOM associations", "network"),
    "python-gdcm": ("decodes JPEG and JPEG-LS pixels", "assemble"),
    "python-multipart": ("reads forms of the pages", "operate"),
    "rich": ("prints tables of the demo", "demo, cli"),
    "scipy": ("distance transforms, labelling, resampling", "assemble, infer"),
    "sqlalchemy": ("the ledger on SQLite or PostgreSQL", "ledger"),
    "starlette": ("pages, DICOMweb, metrics", "operate, query"),
    "structlog": ("structured logs without identity", "observe"),
    "typer": ("the command line", "cli"),
    "uvicorn": ("HTTP server", "app"),
}


@dataclass(frozen=True)
class Package:
    """One package of the lock."""

    name: str
    version: str
    hashes: tuple[str, ...]
    licence: str
    summary: str
    needs: frozenset[str]


class Unusable(Exception):
    """The lock, the environment and the tables of this file do not fit together."""


def packages(lock: Path = REPOSITORY / "requirements.lock") -> list[Package]:
    """Return the packages of a lock with what their installed wheels say of themselves."""
    found = []
    for block in re.split(r"\n(?=\S)", lock.read_text().strip()):
        head = re.match(r"([\w.-]+)==([^\s;]+)", block)
        if not head:
            raise Unusable(f"not a pinned package: {block.splitlines()[0]}")
        name, version = head.groups()
        try:
            about = metadata(name)
        except PackageNotFoundError as error:
            raise Unusable(f"{name} is not installed here: run make") from error
        if about["Version"] != version:
            raise Unusable(f"{name} {about['Version']} is installed, {version} is locked: run make")
        needs = (Requirement(text) for text in about.get_all("Requires-Dist") or [])
        found.append(Package(
            name, version, tuple(re.findall(r"sha256:(\w{64})", block)), _licence(about), about.get("Summary") or "",
            frozenset(canonicalize_name(r.name) for r in needs if r.marker is None or r.marker.evaluate({"extra": ""})),
        ))
    return found


def _licence(about) -> str:
    """Return the SPDX expression of a wheel: stated (PEP 639), or from its older fields."""
    classifiers = [c.split(" :: ")[-1] for c in about.get_all("Classifier") or [] if c.startswith("License ::")]
    for text in (about.get("License-Expression"), about.get("License"), *classifiers):
        if not text or "\n" in text:
            continue
        try:
            return canonicalize_license_expression(_SPDX.get(text.strip(), text.strip()))
        except InvalidLicenseExpression:
            continue
    raise Unusable(f"{about['Name']}: no licence that SPDX knows: {about.get('License')!r}, {classifiers}")


def direct() -> set[str]:
    """Return the names of what pyproject.toml asks for."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    names = {canonicalize_name(Requirement(text).name) for text in project["dependencies"]}
    if missing := names ^ set(PURPOSES):
        raise Unusable(f"PURPOSES and the dependencies in pyproject.toml differ: {', '.join(sorted(missing))}")
    return names


def bundle() -> list[tuple[str, str, str]]:
    """Return (name, version, SHA-256) of the reference bundle's manifest and networks."""
    folder = REPOSITORY / "models" / "reference"
    head = tomllib.loads((folder / "bundle.toml").read_text())["bundle"]
    files = [folder / "bundle.toml", *sorted(folder.glob("*.onnx"))]
    return [(f"{head['name']}/{f.name}", head["version"], hashlib.sha256(f.read_bytes()).hexdigest()) for f in files]


def sbom(found: list[Package]) -> str:
    """Return the CycloneDX document."""
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    root = {"type": "application", "bom-ref": "ovcf-node", "name": "ovcf-node", "version": version,
            "licenses": [{"license": {"id": "Apache-2.0"}}]}
    libraries = [{
        "type": "library", "bom-ref": _purl(p), "name": p.name, "version": p.version, "description": p.summary,
        # Of a locked package every wheel is listed; which one is installed depends on the machine.
        "hashes": [{"alg": "SHA-256", "content": content} for content in p.hashes],
        "licenses": [{"expression": p.licence}], "purl": _purl(p),
    } for p in found]
    models = [{
        "type": "machine-learning-model", "bom-ref": f"model:{name}", "name": name, "version": version,
        "hashes": [{"alg": "SHA-256", "content": digest}], "licenses": [{"license": {"id": "Apache-2.0"}}],
    } for name, version, digest in bundle()]
    by_name = {canonicalize_name(p.name): _purl(p) for p in found}
    edges = [{"ref": "ovcf-node", "dependsOn": sorted(by_name[name] for name in direct()) + [m["bom-ref"] for m in models]}]
    edges += [{"ref": _purl(p), "dependsOn": sorted(by_name[n] for n in p.needs if n in by_name)} for p in found]
    document = {
        "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "metadata": {"component": root},
        "components": libraries + models, "dependencies": edges,
    }
    serial = uuid.uuid5(uuid.NAMESPACE_OID, json.dumps(document, sort_keys=True))
    document = {"bomFormat": "CycloneDX", "specVersion": "1.6", "serialNumber": f"urn:uuid:{serial}", **document}
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _purl(package: Package) -> str:
    return f"pkg:pypi/{canonicalize_name(package.name)}@{package.version}"


def soup(found: list[Package]) -> str:
    """Return the table of SOUP (software of unknown provenance, IEC 62304 8.1.2)."""
    asked = direct()
    users: dict[str, list[str]] = {}
    for package in found:
        for need in package.needs:
            users.setdefault(need, []).append(package.name)
    rows = []
    for package in sorted(found, key=lambda p: (canonicalize_name(p.name) not in asked, p.name)):
        name = canonicalize_name(package.name)
        why = f"{PURPOSES[name][0]} (`{PURPOSES[name][1]}`)" if name in asked else (
            f"needed by {', '.join(sorted(users.get(name, ['an optional part of a package above'])))}")
        rows.append(f"| {package.name} | {package.version} | {package.licence} | {why} |")
    models = [f"| {name} | {version} | `{digest[:16]}` |" for name, version, digest in bundle()]
    template = (REPOSITORY / "deploy" / "SOUP.in.md").read_text()
    return template.replace("@PACKAGES@", "\n".join(rows)).replace("@MODELS@", "\n".join(models))


def main(arguments: list[str]) -> int:
    """Write both files; with `--check` compare instead and exit 1 where one is stale."""
    found = packages()
    stale = 0
    for path, text in ((SBOM, sbom(found)), (SOUP, soup(found))):
        if arguments == ["--check"]:
            if not path.exists() or path.read_text() != text:
                print(f"{path.relative_to(REPOSITORY)} is stale: run make sbom")
                stale = 1
        else:
            path.write_text(text)
            print(f"{path.relative_to(REPOSITORY)}: {len(found)} packages")
    return stale


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Unusable as error:
        sys.exit(str(error))
