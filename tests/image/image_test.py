"""`make image-test`: build the Dockerfile and do the main job with the running container, without a container engine.

    python tests/image/image_test.py build FOLDER    a base image from debootstrap, then the Dockerfile on it (buildah)
    python tests/image/image_test.py run FOLDER      the container, with the options of deploy/README.md (podman, crun)

Needs root, buildah, debootstrap, podman and crun; Debian packages come from the mirror that apt uses here, Python packages
from where pip takes them here. `run` happens in a network namespace of its own, in which nothing but loopback exists: what
works there needs no route out. FOLDER keeps the base system and the images; remove it to start anew.
"""

import errno
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from pydicom.filereader import read_file_meta_info
from pynetdicom import AE
from pynetdicom.presentation import build_context

from dicom_peers import CT_IMAGE, instance
from node_harness import RecordingPacs, dicom_destination, wait_for
from ovcf_node.demo import phantom
from ovcf_node.observe import logging

REPOSITORY = Path(__file__).resolve().parents[2]
BASE, IMAGE = "docker.io/library/debian:bookworm-slim", "localhost/ovcf-node:image-test"
SR, SEG, PICTURE = "1.2.840.10008.5.1.4.1.1.88.34", "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.7"
NAME = "ovcf-node-image-test"


def run(*command: str | Path, quiet: bool = False, ok: tuple[int, ...] = (0,)) -> str:
    """Run a command to its end and return its output, which is also printed as it comes unless `quiet`."""
    words = [str(word) for word in command]
    output = ""
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        for line in process.stdout:
            output += line
            if not quiet:
                print(line, end="", flush=True)
    if process.returncode not in ok:
        raise SystemExit(f"{' '.join(words)}\nended with {process.returncode}:\n{output[-3000:]}")
    return output.strip()


class Tools:
    """buildah and podman on one store below `folder`."""

    def __init__(self, folder: Path):
        self._store = ["--root", folder / "storage", "--runroot", folder / "runroot", "--storage-driver", "vfs"]

    def buildah(self, *arguments: str | Path, **options) -> str:
        return run("buildah", *self._store, *arguments, **options)

    def podman(self, *arguments: str | Path, **options) -> str:
        # No cgroups: the namespaces, the mounts and the rights are what is tested.
        flags = ("--cgroup-manager", "cgroupfs", "--runtime", "crun", "--runtime-flag", "cgroup-manager=disabled")
        return run("podman", *self._store, *flags, *arguments, **options)


def build(folder: Path) -> None:
    """Make the base image and the image on it."""
    tools = Tools(folder)
    base = debian(folder / "base")
    container = tools.buildah("from", "scratch", quiet=True)
    tools.buildah("add", container, base, "/", quiet=True)
    tools.buildah("commit", "--quiet", "--rm", container, BASE, quiet=True)
    begun = time.monotonic()
    tools.buildah("bud", "--isolation", "chroot", "--pull-never", "--format", "docker", "--tag", IMAGE, REPOSITORY)
    sizes = tools.buildah("images", "--format", "{{.Name}} {{.Size}}", quiet=True)
    print(f"built in {time.monotonic() - begun:.0f} s\n{sizes}")


def debian(root: Path) -> Path:
    """Return a minimal bookworm, like the official slim image; settings of apt and pip are this machine's."""
    if not (root / "made").exists():
        shutil.rmtree(root, ignore_errors=True)
        ours = ("Codename: bookworm", "Created-By: Packages")
        mirror = run("apt-get", "indextargets", "--format", "$(SITE)", *ours, quiet=True).splitlines()[0]
        run("debootstrap", "--variant=minbase", "bookworm", root, mirror)
        (root / "made").touch()
    for waste in ("usr/share/doc", "usr/share/man", "usr/share/locale", "var/cache/apt", "var/lib/apt/lists"):
        shutil.rmtree(root / waste)
        (root / waste).mkdir()
    (root / "etc/apt/apt.conf.d/slim").write_text(
        'APT::Keep-Downloaded-Packages "false";\nDir::Cache::pkgcache "";\nDir::Cache::srcpkgcache "";\n'
        'DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb"; };\n'
    )
    settings = {}
    for line in run(sys.executable, "-m", "pip", "config", "list", quiet=True).splitlines():
        name, _, value = line.partition("=")
        settings[name.split(".")[-1]] = value.strip("'\"")
    kept = {key: settings[key] for key in ("index-url", "proxy", "trusted-host", "cert") if key in settings}
    if "cert" in kept:
        shutil.copy(kept["cert"], root / "etc/pip-ca.crt")
        kept["cert"] = "/etc/pip-ca.crt"
    lines = [f"{key} = {value}" for key, value in kept.items()]
    (root / "etc/pip.conf").write_text("\n".join(["[global]", *lines, ""]))
    return root


def isolated(folder: Path) -> None:
    """Start the main job in namespaces of its own: mounts, and a network that is loopback alone."""
    # crun does not run where a cgroup v2 hierarchy is mounted beside v1; here, in our own mounts, it is not.
    prepare = "ip link set lo up; umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$@\""
    command = ["unshare", "--net", "--mount", "sh", "-c", prepare, "sh", sys.executable, __file__, "inside", str(folder)]
    raise SystemExit(subprocess.run(command).returncode)


def main_job(folder: Path) -> None:
    """Scanner -> container -> PACS, then what the container must not be able to do, then a drain."""
    logging.configure("WARNING", "console")
    tools, work = Tools(folder), folder / "run"
    shutil.rmtree(work, ignore_errors=True)
    data = work / "data"
    data.mkdir(parents=True)
    os.chown(data, 10001, 10001)
    pacs = RecordingPacs(work / "pacs")
    with pacs.running():
        configuration = work / "ovcf-node.toml"
        configuration.write_text(
            '[node]\ninstallation = "image-test"\ndata = "/var/lib/ovcf-node"\nbundle = "/models/reference"\n'
            '[receive]\nsources = [{ ae_title = "SCANNER" }]\nmin_free_mb = 100\n[assemble]\nquiet_s = 2.0\n'
            + dicom_destination("pacs", "TEST_PACS", pacs.port)
        )
        tools.podman("rm", "--force", "--ignore", NAME, quiet=True)
        begun = time.monotonic()
        try:
            tools.podman(
                "run", "--detach", "--name", NAME, "--network", "host", "--cgroups", "disabled", "--no-healthcheck",
                "--ulimit", "nofile=1024:4096", "--ulimit", "nproc=4096:4096", "--pull", "never",
                *("--init", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
                *("--env", "TZ=Europe/Berlin", "--volume", f"{configuration}:/etc/ovcf-node.toml:ro"),
                *("--volume", f"{data}:/var/lib/ovcf-node", IMAGE), quiet=True,
            )
            inside = Inside(tools)
            wait_for(lambda: inside.status("ovcf-node", "alive") == 0, 120, "healthy")
            told(f"healthy {time.monotonic() - begun:.0f} s after podman run")
            told(inside.output("ovcf-node", "check"))
            deliver(work, pacs)
            confined(inside)
            drained(tools, folder)
        finally:
            (work / "container.log").write_text(tools.podman("logs", NAME, quiet=True, ok=(0, 125)))
            tools.podman("rm", "--force", "--ignore", NAME, quiet=True)
    print("image-test: 1 passed, 0 failed")


class Inside:
    """Commands in the running container, as its own user."""

    def __init__(self, tools: Tools):
        self._tools = tools

    def output(self, *command: str) -> str:
        return self._tools.podman("exec", NAME, *command, quiet=True)

    def status(self, *command: str) -> int:
        text = self._tools.podman("exec", NAME, "sh", "-c", '"$@" >/dev/null 2>&1; echo "status $?"', "sh", *command,
                                  quiet=True, ok=(0, 125, 126, 255))
        return int(text.rpartition("status ")[2]) if "status " in text else -1

    def python(self, program: str) -> str:
        return self.output("python", "-c", program)


def deliver(work: Path, pacs: RecordingPacs) -> None:
    """Send the phantom by C-STORE and wait for every object at the PACS."""
    phantom.write_series(phantom.load(), work / "phantom")
    run(sys.executable, "-m", "ovcf_node", "send", work / "phantom", "--calling", "SCANNER")
    sent = time.monotonic()
    wait_for(lambda: len(pacs.receipts) >= 4, 300, "four objects at the PACS")
    arrived = sorted(str(read_file_meta_info(path).MediaStorageSOPClassUID) for path in pacs.folder.glob("*.dcm"))
    assert arrived == sorted([SR, SEG, SEG, PICTURE]), arrived
    told(f"SEG, SEG, picture and SR at the PACS {time.monotonic() - sent:.0f} s after the last image (2 s of it quiet)")


def confined(inside: Inside) -> None:
    """Non-root, no rights, nothing written outside the volume, no core dumps, no route, no build tools."""
    assert inside.output("id", "-u") == "10001"
    assert inside.status("touch", "/opt/x") != 0 and inside.status("touch", "/var/lib/ovcf-node/probe") == 0
    state = inside.output("sh", "-c", "cat /proc/[0-9]*/status")
    assert "CapEff:\t0000000000000000" in state and state.count("NoNewPrivs:\t1") == state.count("NoNewPrivs")
    limits = inside.python(
        "import pathlib; print(*(p.read_text() for c in pathlib.Path('/proc').glob('[0-9]*') "
        "if b'run\\0receiver' in (c / 'cmdline').read_bytes() or b'run\\0worker' in (c / 'cmdline').read_bytes() "
        "for p in [c / 'limits']))"
    )
    assert limits.count("Max core file size        0                    0") == 2, limits
    reached = inside.python(
        "import socket\ntry: socket.create_connection(('192.0.2.1', 80), 3)\nexcept OSError as e: print(e.errno)"
    )
    assert int(reached) == errno.ENETUNREACH, reached
    for absent in ("pip", "gcc", "make"):
        assert inside.status("sh", "-c", f"command -v {absent}") != 0, absent
    packages = json.loads(inside.python(
        "import importlib.metadata as m, json; print(json.dumps([d.metadata['Name'] for d in m.distributions()]))"
    ))
    assert not {"torch", "pip", "setuptools", "pytest"} & set(packages), packages
    told(f"confined: uid 10001, no capabilities, read-only root, no core dumps, no route; {len(packages)} Python packages")


def drained(tools: Tools, folder: Path) -> None:
    """SIGTERM while a scanner sends: the association ends in its own time, and the container with status 0."""
    scanner = AE("SCANNER").associate("127.0.0.1", 11112, contexts=[build_context(CT_IMAGE)], ae_title="OVCF_NODE")
    assert scanner.is_established
    stopping = time.monotonic()
    stop = subprocess.Popen([sys.executable, __file__, "stop", str(folder)])
    wait_for(refused, 20, "the port is closed to newcomers")
    assert scanner.send_c_store(instance()).Status == 0x0000
    scanner.release()
    assert stop.wait(60) == 0
    status = tools.podman("inspect", "--format", "{{.State.ExitCode}}", NAME, quiet=True)
    assert status == "0", status
    told(f"drained in {time.monotonic() - stopping:.0f} s with status 0; the open association stored one more instance")


def refused() -> bool:
    try:
        socket.create_connection(("127.0.0.1", 11112), 1).close()
    except OSError:
        return True
    return False


def told(text: str) -> None:
    print(f"--- {text}", flush=True)


if __name__ == "__main__":
    step, place = sys.argv[1], Path(sys.argv[2]).resolve()
    place.mkdir(parents=True, exist_ok=True)
    if step == "build":
        build(place)
    elif step == "run":
        isolated(place)
    elif step == "inside":
        main_job(place)
    elif step == "stop":
        Tools(place).podman("stop", "--time", "40", NAME, quiet=True)
