"""One real node, a patient whose every word is marked, everything that succeeds and everything that fails: then every place
where identity must not be is searched for every mark.

Allowed: objects, spool, results, ledger, audit outbox, pages of those who may see identity, `jobs show`.
"""

import os
import re
import signal
import subprocess
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pydicom
import pytest

from ct_series import uid
from dicom_peers import CT_IMAGE, program
from node_harness import Node, RecordingPacs, dicom_destination, free_port, wait_for
from ovcf_node.network import associate
from ovcf_node.network.messages import StoreAnswer
from ovcf_node.operate import users
from ovcf_node.operate.users import Role
from ovcf_node.query import tokens
from ovcf_node.storage.spool import folder_of
from planted_defects import not_met, plant_defects
from planted_identity import IDEOGRAPHS, every_form, leaks, mark, plant
from quick_study import label_bundle, series_uid, write_study
from result_cases import make_case

pytestmark = [pytest.mark.peer, pytest.mark.slow, pytest.mark.timeout(600)]

PASSWORD = "spine reader 2026"
SERIES = {"read": series_uid("read"), **{n: uid(n, f"{n} series") for n in ("conflict", "broken", "child", "answer")}}
ALLOWED = ("spool", "results", "audit", "ledger")
"""What begins like this in the data folder may hold identity."""


class _RudeServer(BaseHTTPRequestHandler):
    """A DICOMweb server that refuses everything and quotes whom it is about."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        said = f"no place for {mark('STOW answer')}".encode()
        self.send_response(409, mark("STOW reason phrase"))
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    do_GET = do_OPTIONS = do_POST

    def log_message(self, *_) -> None:
        """Say nothing."""


class Scene:
    """The node and its surroundings; `told` collects what was said where."""

    def __init__(self, folder: Path, stack: ExitStack):
        self.folder, self.told, self.addresses = folder, {}, set()
        self.pacs = stack.enter_context(RecordingPacs(folder / "pacs", answer=self._refuse).running())
        rude = ThreadingHTTPServer(("127.0.0.1", 0), _RudeServer)
        Thread(target=rude.serve_forever, daemon=True).start()
        stack.callback(rude.server_close)
        stack.callback(rude.shutdown)
        self.query, self.web = free_port(), f"http://127.0.0.1:{(port := free_port())}"
        self.node = Node(
            folder / "node",
            f'[[destinations]]\nname = "archive"\ntype = "folder"\npath = "{folder / "archive"}"\n'
            + dicom_destination("pacs", "TEST_PACS", self.pacs.port) + dicom_destination("away", "AWAY", free_port())
            + f'[[destinations]]\nname = "vna"\ntype = "stow"\nurl = "http://127.0.0.1:{rude.server_port}/web"\n',
            extra=f'[log]\nlevel = "DEBUG"\n[infer]\nattempts = 2\n'
                  f'[audit]\nhost = "127.0.0.1"\ntls = false\nretry_s = 1\nport = {free_port()}\n'
                  f'[query]\nenabled = true\nport = {self.query}\npeers = [{{ ae_title = "FINDSCU" }}]\n'
                  f'[web]\nenabled = true\nport = {port}\nusers = "users.toml"\ntokens = "tokens.toml"\n',
        )
        roles = {"otto": Role.OPERATOR, "vera": Role.VIEWER, "rita": Role.READER}
        users.save(folder / "node" / "users.toml", {
            account: users.make(account, f"{account}^T", frozenset({role}), PASSWORD) for account, role in roles.items()})
        self.token = tokens.add(folder / "node" / "tokens.toml", "viewer-program", tokens.PERMISSIONS, None)

    def _run(self, *arguments: str) -> str:
        done = self.node.command(*arguments)
        return done.stderr + done.stdout

    @staticmethod
    def _refuse(request) -> StoreAnswer:
        return StoreAnswer(0xC123, f"{mark('Error Comment')} {mark('PatientName')} is not known")

    # --- what the scanners do --------------------------------------------------------------------------------------

    def send(self, paths: list[Path]) -> set[int | None]:
        """Send as a scanner that goes on after a refusal; returns the statuses."""
        files = [associate.StoreFile(p, CT_IMAGE, pydicom.dcmread(p, specific_tags=[]).file_meta.MediaStorageSOPInstanceUID)
                 for p in paths]
        replies: list[associate.StoreReply] = []
        associate.store(associate.Remote("127.0.0.1", self.node.port, "OVCF_NODE", "SCANNER", timeout_s=60), files,
                        replies.append)
        return {reply.status for reply in replies}

    def sent(self) -> None:
        """Send what is read, what is refused, what is held, what cannot be read, what meets a defect."""
        name = mark("file name")
        studies = {"read": write_study(self.folder / name / "read", "read")}
        for study in ("conflict", "broken", "child", "answer"):
            make_case(self.folder / name / study, spacing=5.0, study=study, series=SERIES_NAME[study], prefix=name,
                      SliceThickness="5.000000000001")
            studies[study] = sorted((self.folder / name / study).iterdir())
        for paths in studies.values():
            plant(paths)
        for path in studies["broken"]:  # numbers and a date that are none
            data = path.read_bytes().replace(b"5.000000000001", mark("a number").encode() + b"    ")
            path.write_bytes(data.replace(b"18710105", mark("a date").encode()[:8]))
        assert self.send(studies["child"][:1]) == {0x0110}  # the receiver's defect
        cut = self.folder / name / "cut.dcm"
        data = studies["child"][0].read_bytes()
        at = data.index(mark("PatientName").encode())
        cut.write_bytes(data[:at - 4] + b"\xff\x7f" + data[at - 2:at + 12])
        assert self.send([cut]).isdisjoint({0x0000})
        for paths in studies.values():
            assert self.send(paths) == {0x0000}
        twin = studies["conflict"][0]
        plant([twin], PatientID=mark("another patient"), PatientName=mark("another name"))
        assert self.send([twin]) == {0x0000}
        self._run("send", str(self.folder / name / "conflict"), "--port", str(self.node.port), "--calling", "NOBODY")

    def answered(self) -> None:
        """Wait until everything has ended as it must."""
        ledger = self.node.ledger

        def ended(study: str) -> bool:
            newest = self.node.newest(SERIES[study])
            return newest is not None and (newest.answered or newest.state in ("FAILED", "EXCLUDED"))

        for study in ("read", "broken", "child", "answer"):
            wait_for(lambda study=study: ended(study), 240, f"{study} has ended; see {self.node.log}")
        wait_for(ledger.holds.all, 120, "the conflict is held")
        revision = self.node.newest(SERIES["read"])
        for name, state in (("archive", "ACCEPTED"), ("pacs", "REJECTED")):
            wait_for(lambda name=name, state=state: {str(d.state) for d in ledger.deliveries.of_revision(revision.id, name)}
                     == {state}, 120, f"{name} has answered; see {self.node.log}")
        wait_for(lambda: any(d.attempts for d in ledger.deliveries.of_revision(revision.id, "vna")), 120, "vna has refused")
        wait_for(lambda: ledger.destinations.of("away").away_since, 120, "one destination is away")

    # --- what programs and people ask ------------------------------------------------------------------------------

    def asked(self) -> None:
        """Ask by C-FIND and DICOMweb: what is there, what is not, what is no question."""
        for keys in (("QueryRetrieveLevel=STUDY", f"PatientName={mark('C-FIND name')}*"),
                     ("QueryRetrieveLevel=STUDY", "PatientName=zq*"),
                     (f"QueryRetrieveLevel={mark('level')}", f"PatientID={mark('C-FIND id')}"),
                     ("QueryRetrieveLevel=STUDY", f"StudyDate={mark('C-FIND date')}", "PatientBirthDate=18710105-"),
                     ("QueryRetrieveLevel=IMAGE", f"AccessionNumber={mark('C-FIND accession')}")):
            options = [part for key in keys for part in ("-k", key)]
            for caller in ("FINDSCU", "STRANGER"):
                subprocess.run([program("findscu"), "-aet", caller, "-aec", "OVCF_NODE", "-S", *options, "127.0.0.1",
                                str(self.query)], capture_output=True, timeout=60)
        study = self.node.newest(SERIES["read"]).study_instance_uid
        searches = [f"/studies?PatientName={mark('QIDO name')}&limit={mark('limit')}", f"/studies?{mark('key')}=1",
                    f"/studies?PatientID={mark('QIDO id')}", "/studies?PatientName=zq*&PatientBirthDate=18710105",
                    f"/studies?StudyDate={mark('QIDO date')}", f"/studies?includefield={mark('field')}",
                    f"/studies/{mark('UID in a path')}/series", f"/studies/{study}/rendered?viewport={mark('viewport')}",
                    f"/studies/{study}/metadata?accept={mark('accept')}", f"/{mark('resource')}",
                    f"/studies/{study}/series/{mark('UID')}/instances/1/frames/{mark('frame')}"]
        good = {"Authorization": f"Bearer {self.token}"}
        for search in searches:
            for headers in (good, {"Authorization": f"Bearer {mark('token')}"}, {}):
                answer = httpx.get(f"{self.web}/dicom-web{search}", headers=headers, timeout=60, follow_redirects=False)
                if answer.status_code >= 300:
                    self._keep("DICOMweb", answer)
        found = httpx.get(f"{self.web}/dicom-web/studies", headers=good, timeout=60)
        assert mark("PatientID") in found.text  # programs with a token do see it

    def _keep(self, place: str, answer: httpx.Response) -> None:
        head = b"\n".join(b"%s: %s" % pair for pair in answer.headers.raw)
        if answer.status_code >= 400 and answer.status_code != 409:  # 409: the page again, with what was chosen
            place = f"errors on {place}"
        self.told[place] = self.told.get(place, b"") + b"\n" + head + b"\n" + answer.content
        if "location" in answer.headers:
            self.addresses.add(answer.headers["location"])

    def browsed(self, account: str | None) -> str:
        """Look at every page that is linked, and send forms that are wrong; returns everything that was shown."""
        page = f"pages of {account or 'nobody'}"
        # A page that fails ends its connection behind the answer: none is used twice.
        with httpx.Client(base_url=self.web, timeout=60, headers={"Connection": "close"}) as client:
            if account:
                self._sign_in(client, account, PASSWORD)
            todo, seen = ["/", "/live", "/configuration", "/health", "/ready", "/metrics",
                          f"/study/{mark('name in a path')}", f"/{mark('path')}", f"/?done={mark('done')}"], set()
            while todo:
                address = todo.pop()
                seen.add(address)
                answer = client.get(address)
                self._keep(page, answer)
                if "html" in answer.headers.get("content-type", ""):
                    linked = set(re.findall(r'(?:href|src|action|data-from)="([^"]*)"', answer.text))
                    self.addresses |= linked
                    todo += [a for a in linked - seen - set(todo) if a.startswith("/") and not a.startswith("/static")]
                if "location" in answer.headers and answer.headers["location"] not in seen:
                    todo.append(answer.headers["location"])
                todo = [a for a in todo if not re.search(r"/(retry|hold|release|discard|assess|sign-out|find)$", a)]
            self._wrong_forms(client, page, sorted(a for a in seen if re.fullmatch(r"/study/\d+-\w+", a)))
        return self.told[page].decode(errors="replace")

    def _wrong_forms(self, client: httpx.Client, page: str, studies: list[str]) -> None:
        shown = client.get("/", follow_redirects=True).text
        token = (re.search(r'name="token" value="(\w+)"', shown) or [None, ""])[1]
        form = {"token": token, "number": mark("form field"), "revision": mark("form field"), "said-L1": mark("form field"),
                "account": mark("wrong account"), "password": mark("wrong password")}
        targets = ["/find", "/sign-in", f"/sign-in?next=/study/{mark('next')}", f"/destination/{mark('destination')}/hold"]
        for study in studies:
            targets += [f"{study}/retry", f"{study}/assess", f"{study}/{mark('decision')}"]
        for target in targets:
            for given in (form, form | {"token": mark("form token")}):
                self._keep(page, client.post(target, data=given))

    @staticmethod
    def _sign_in(client: httpx.Client, account: str, password: str) -> None:
        token = re.search(r'name="token" value="(\w+)"', client.get("/sign-in").text)[1]
        answer = client.post("/sign-in", data={"account": account, "password": password, "token": token})
        assert answer.status_code == 303, answer.text

    def commanded(self) -> None:
        """Ask the commands."""
        for arguments in (("check",), ("config", "show"), ("jobs", "list"), ("destinations", "list")):
            self.told[f"ovcf-node {' '.join(arguments)}"] = self._run(*arguments).encode()
        self.told["errors of commands"] = "".join(
            self._run("jobs", decision, "7.7.7") for decision in ("show", "release")
        ).encode()

    def processes(self) -> None:
        """Note the command lines of the node's processes, then lose one."""
        lines = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    line = (entry / "cmdline").read_bytes()
                    environment = (entry / "environ").read_bytes()
                except OSError:
                    continue  # ended meanwhile, or somebody else's
                if b"ovcf_node" in line and str(self.folder).encode() in line + environment:
                    lines.append(line)
        assert len(lines) >= 6, lines
        self.told["command lines"] = b"\n".join(lines)
        worker, = self.node.worker_pids("worker")
        os.kill(worker, signal.SIGKILL)
        wait_for(lambda: self.node.worker_pids("worker") not in ([], [worker]), 60, "another worker")


SERIES_NAME = {name: f"{name} series" for name in ("conflict", "broken", "child", "answer")}
NEEDLES = {
    "ovcf_node.receive.storing:read_header": "",
    "ovcf_node.assemble.pixels:read_hu": folder_of(SERIES["child"]),
    "ovcf_node.assemble:inspect": folder_of(SERIES["broken"]),
    "ovcf_node.workflow.answering:answer": SERIES["answer"],
    "ovcf_node.deliver.folder:send": "",
    "ovcf_node.app.sender:run": "",
    "ovcf_node.operate.study:Studies.view": "",
    "ovcf_node.query.dicomweb.searching:search": "",
    "ovcf_node.query.scp:QueryScp.find": "",
}


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    folder = tmp_path_factory.mktemp("leaks")
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        words = f"'{mark('message of a defect')} {mark('PatientName')} {IDEOGRAPHS}'"
        plant_defects(folder / "defects", words, NEEDLES)
        scene = Scene(folder, stack)
        patch.setenv("OVCF_NODE__NODE__BUNDLE", str(label_bundle(folder / "bundle")))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(folder / "defects"), os.environ.get("PYTHONPATH", "")]))
        with scene.node.running():
            scene.sent()
            scene.answered()
            scene.asked()
            scene.shown = {account: scene.browsed(account) for account in (None, "otto", "rita", "vera")}
            scene.commanded()
            scene.shown["jobs show"] = scene._run("jobs", "show", SERIES["read"])
            scene.processes()
        scene.told["log"] = scene.node.log.read_bytes()
        scene.told["addresses"] = "\n".join(sorted(scene.addresses)).encode()
        yield scene


def uids(scene: Scene) -> list[str]:
    """Return the UIDs of all studies, series and instances that were sent."""
    found = set()
    for path in (scene.folder / mark("file name")).glob("*/*"):
        header = pydicom.dcmread(path, stop_before_pixels=True)
        found |= {str(header.StudyInstanceUID), str(header.SeriesInstanceUID), str(header.SOPInstanceUID)}
    return sorted(found)


def test_everything_was_met(scene):
    """Without this, a node that does nothing would pass."""
    assert not_met(scene.folder / "defects", NEEDLES) == []
    log = scene.told["log"].decode()
    expected = ("instance_refused", "study_held", "destination_away", "defect", "crashed", "process_ended", "sign_in_failed",
                "dicomweb_failed", "association_rejected", "audit_waits", "signed_in", "study_shown", "sent", "ValueError")
    assert [event for event in expected if f'"{event}' not in log and event not in log] == []
    assert mark("Error Comment") in scene.shown["jobs show"]
    for account in ("otto", "rita"):
        assert mark("PatientID") in scene.shown[account] and IDEOGRAPHS in scene.shown[account]
    assert mark("Error Comment") in scene.shown["otto"]
    assert "<h3>Objects</h3>" in scene.shown["vera"] and "# HELP ovcf_" in scene.shown[None]


def test_nothing_leaked(scene):
    known = uids(scene)
    allowed = ("pages of otto", "pages of rita")
    found = {}
    for place, said in scene.told.items():
        if place in allowed:
            continue
        if leaked := leaks(said, known):
            found[place] = leaked
    assert found == {}


def test_the_data_folder(scene):
    root = scene.node.settings.node.data
    paths = [path for path in root.rglob("*") if path.is_file()]
    names = "\n".join(str(path.relative_to(root)) for path in paths).encode()
    assert leaks(names, uids(scene)) == []
    others = [path for path in paths if not path.relative_to(root).parts[0].startswith(ALLOWED)]
    assert {path.name for path in others} >= {"engine.sqlite", "log-key.secret"}
    assert {str(path): found for path in others if (found := leaks(path.read_bytes()))} == {}


def test_the_search_finds_what_is_there(scene, tmp_path):
    """The canary: every form, put into a copy of the log, is found; and the places where identity may be do hold it."""
    log = scene.told["log"]
    lines = log.splitlines()[-10:]
    missed = [form for form in every_form() if not leaks(b"\n".join([*lines[:5], form, *lines[5:]]))]
    assert missed == []
    assert leaks(log + uids(scene)[0].encode(), uids(scene))
    root = scene.node.settings.node.data
    spool = b"".join(path.read_bytes() for path in (root / "spool").rglob("*.dcm"))
    assert {"PatientName", "AccessionNumber", "private text", "item's accession"} <= set(leaks(spool))
    assert leaks(b"".join(path.read_bytes() for path in (root / "audit").rglob("*") if path.is_file()))
