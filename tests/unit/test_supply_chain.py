"""What goes into the image and where it comes from: hashed locks without addresses, no secrets, signed releases."""

import os
import re
import subprocess
from fnmatch import fnmatch
from pathlib import Path

import pytest

from dicom_peers import program

REPOSITORY = Path(__file__).resolve().parents[2]
DOCKERFILE = (REPOSITORY / "Dockerfile").read_text().replace("\\\n", " ")
LOCKS = sorted(path.name for path in REPOSITORY.glob("requirements*.lock"))
SECRETS = re.compile(
    rb"-----BEGIN [A-Z ]*PRIVATE KEY|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_\w{30,}|\$argon2id\$|://[^/\s:@\"'{}]+:[^/\s@\"'{}]+@"
    rb"|(?i:\b(?:password|secret|token|api_key)\s*=\s*[\"'][^\"'{}<\s]{8,}[\"'])"
)
REQUIREMENT = re.compile(r"[a-z0-9][a-z0-9.\-]*==[0-9][\w.+!]*( ; [^\\\n]+)?( \\\n    --hash=sha256:[0-9a-f]{64})+")


@pytest.mark.parametrize("name", LOCKS)
def test_every_line_of_a_lock_is_a_version_with_its_hashes_and_no_address(name):
    text = (REPOSITORY / name).read_text()
    rest = REQUIREMENT.sub("", text)
    assert rest.split() == []  # nothing else: no option, no index, no URL, no path
    assert "://" not in text and len(re.findall(r"^\S+==", text, re.MULTILINE)) == len(REQUIREMENT.findall(text))


def test_what_the_image_installs_is_hashed():
    installs = re.findall(r"pip (?:--python \S+ )?install [^&\n]+", DOCKERFILE)
    assert len(installs) == 3
    assert all("--require-hashes" in line or "--no-index" in line for line in installs)
    assert not re.search(r"index-url|find-links|trusted-host|\bADD\b|curl|wget", DOCKERFILE)


def context() -> list[Path]:
    """Return the files of the repository that the engine gets to see: an allow-list."""
    rules = [line for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    wanted = [rule[1:] for rule in rules if rule.startswith("!")]
    refused = [rule.removeprefix("**/") for rule in rules[1:] if not rule.startswith("!")]
    files = [path for one in wanted for path in (REPOSITORY / one, *(REPOSITORY / one).rglob("*"))]
    return [path for path in files if path.is_file()
            and not any(fnmatch(part, rule) for part in path.relative_to(REPOSITORY).parts for rule in refused)]


def test_the_build_sees_what_it_copies_and_nothing_else():
    lines = re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
    copied = {source for line in lines for source in line.split()[:-1]}
    rules = (REPOSITORY / ".dockerignore").read_text().splitlines()
    assert copied == {rule[1:] for rule in rules if rule.startswith("!")}
    kinds = (".py", ".html", ".js", ".css", ".svg", ".json", ".toml", ".lock", ".md", ".mako", ".onnx", ".npz", "")
    assert {str(path) for path in context() if path.suffix not in kinds} == set()


def test_no_secret_in_image_or_recipe():
    assert not re.search(r"^(ARG|ENV)\b.*(PASSWORD|SECRET|TOKEN|KEY)", DOCKERFILE, re.MULTILINE | re.IGNORECASE)
    files = [*context(), REPOSITORY / "Dockerfile"]
    assert len(files) > 100
    assert [str(path) for path in files if SECRETS.search(path.read_bytes())] == []


@pytest.mark.parametrize("text", [
    b"-----BEGIN EC PRIVATE KEY-----", b'password = "winter2026!"', b"postgresql://ovcf:hunter2@db/ledger", b"$argon2id$v",
])
def test_secrets_are_recognised(text):
    assert SECRETS.search(b"x = 1\n" + text)


@pytest.mark.peer
def test_the_release_procedure_signs_and_verifies(tmp_path):
    """The commands of RELEASING.md, run: what was signed verifies; another key, a changed image, a changed list do not."""
    paper = (REPOSITORY / "deploy" / "RELEASING.md").read_text()
    sign, verify = (re.search(rf"```sh {what}\n(.*?)```", paper, re.DOTALL)[1] for what in ("sign", "verify"))
    release = tmp_path / "release"
    release.mkdir()
    for name in ("ovcf-node-9.tar", "ovcf-node-9.oci.tar", "SBOM.cdx.json", "requirements.lock", "requirements-build.lock"):
        (release / name).write_text(name)
    maintainer, hospital = _Keys(tmp_path / "m"), _Keys(tmp_path / "h")
    try:
        maintainer.run("gpg --batch --passphrase '' --quick-generate-key 'ovcf-node releases' ed25519 sign never", release)
        listed = maintainer.run("gpg --with-colons --fingerprint", release).stdout
        theirs = re.search(r"^fpr:*([0-9A-F]{40}):", listed, re.MULTILINE)[1]
        assert maintainer.run(sign, release).returncode == 0
        assert hospital.run(verify, release, FINGERPRINT=theirs).returncode == 0
        assert hospital.run(verify, release, FINGERPRINT="0" * 40).returncode != 0
        (release / "ovcf-node-9.oci.tar").write_text("another image")
        assert hospital.run(verify, release, FINGERPRINT=theirs).returncode != 0
        done = maintainer.run("sha256sum * > SHA256SUMS", release)  # whoever changed the image changes the list too
        assert done.returncode == 0 and hospital.run(verify, release, FINGERPRINT=theirs).returncode != 0
    finally:
        maintainer.end()
        hospital.end()


class _Keys:
    """Somebody's keys, in a folder of their own."""

    def __init__(self, folder: Path):
        program("gpg")
        folder.mkdir(mode=0o700)
        self._environment = os.environ | {"GNUPGHOME": str(folder), "V": "9", "LC_ALL": "C"}

    def run(self, commands: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["bash", "-euo", "pipefail", "-c", commands], cwd=folder, capture_output=True, text=True,
                              env=self._environment | variables, timeout=60)

    def end(self) -> None:
        """End the agent that gpg started for these keys."""
        subprocess.run(["gpgconf", "--kill", "all"], env=self._environment, timeout=30, check=False)
