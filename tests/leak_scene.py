"""A real node, a patient whose every word is marked, and everybody around: what succeeds, what fails, what is said where."""

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

from ct_series import uid
from dicom_peers import CT_IMAGE, program
from indiscreet_peers import (
    TalkingCommitment,
    commitment_asked_and_reported,
    retrieved,
    sealed_pacs,
    shaken_hands,
    talking_archive,
)
from node_harness import Node, RecordingPacs, dicom_destination, free_port, wait_for
from ovcf_node.network import associate, contexts
from ovcf_node.network.messages import StoreAnswer
from ovcf_node.operate import users
from ovcf_node.operate.users import Role
from ovcf_node.query import tokens
from ovcf_node.storage.spool import folder_of
from planted_identity import mark, plant
from quick_study import series_uid, write_study
from result_cases import make_case
from tls_files import authority

PASSWORD = "spine reader 2026"
TECHNICIAN = "Technician Jane"
"""Subject of a client's certificate that is welcome."""
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
        self.folder, self.told, self.shown, self.addresses = folder, {}, {}, set()
        self.pacs = stack.enter_context(RecordingPacs(folder / "pacs", answer=self._refuse).running())
        rude = ThreadingHTTPServer(("127.0.0.1", 0), _RudeServer)
        Thread(target=rude.serve_forever, daemon=True).start()
        stack.callback(rude.server_close)
        stack.callback(rude.shutdown)
        self.query, self.web = free_port(), f"http://127.0.0.1:{(port := free_port())}"
        self.hospital, self.tls_port, sealed = authority(folder / "ca"), free_port(), free_port()
        certificate, key = self.hospital.issue("node")
        stack.enter_context(sealed_pacs(self.hospital, sealed))
        self.committing = TalkingCommitment(contexts.RESULTS)
        stack.callback(self.committing.close)
        lying = folder / mark("file name") / "fetched"
        make_case(lying, spacing=20.0, study="fetched", series="fetched series")
        self.fetched = sorted(lying.iterdir())
        plant(self.fetched)
        receiver = free_port()
        self.archive = stack.enter_context(talking_archive(self.fetched, receiver))
        self.node = Node(
            folder / "node",
            f'[[destinations]]\nname = "archive"\ntype = "folder"\npath = "{folder / "archive"}"\n'
            + dicom_destination("pacs", "TEST_PACS", self.pacs.port) + dicom_destination("away", "AWAY", free_port())
            + dicom_destination("sealed", "SEALED", sealed, tls=True)
            + dicom_destination("committing", "PACS", self.committing.port, final="committed")
            + f'[[destinations]]\nname = "vna"\ntype = "stow"\nurl = "http://127.0.0.1:{rude.server_port}/web"\n'
            + "".join(f'[[archives]]\nname = "{how}"\nae_title = "ARCHIVE"\nhost = "127.0.0.1"\nport = {self.archive.port}\n'
                      f'retrieve = "{how}"\ntimeout_s = 20\n' for how in ("move", "get")),
            extra=f'[log]\nlevel = "DEBUG"\n[infer]\nattempts = 2\n'
                  f'[audit]\nhost = "127.0.0.1"\ntls = false\nretry_s = 1\nport = {free_port()}\n'
                  f'[tls]\ncertificate = "{certificate}"\nkey = "{key}"\nca = "{self.hospital.certificate}"\n'
                  f'[query]\nenabled = true\nport = {self.query}\npeers = [{{ ae_title = "FINDSCU" }}, {{ ae_title = '
                  f'"TEST_PACS", move_host = "127.0.0.1", move_port = {self.pacs.port} }}, {{ ae_title = "AWAY", '
                  f'move_host = "127.0.0.1", move_port = {free_port()} }}]\n'
                  f'[web]\nenabled = true\nport = {port}\nusers = "users.toml"\ntokens = "tokens.toml"\n',
            port=receiver, sources=("SCANNER", "STORESCU", "ARCHIVE"),
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

    def exchanged(self) -> None:
        """Retrieve, fetch, commit and shake hands with peers that quote whom it is about."""
        study = self.node.newest(SERIES["read"]).study_instance_uid
        self.statuses = {
            "retrieved": retrieved(self.query, study, self.folder / "got", destinations=("TEST_PACS", "AWAY", "NOBODY")),
            "committed": commitment_asked_and_reported(self.node.port, "SCANNER"),
            "hands": shaken_hands(self.tls_port, self.hospital, self.folder, TECHNICIAN),
        }
        named = str(pydicom.dcmread(self.fetched[0], stop_before_pixels=True).StudyInstanceUID)
        self.shown["fetch"] = "".join(self._run("fetch", "--from", how, "--study", named) for how in ("move", "get"))
        wait_for(lambda: self.committing.statuses, 60, f"a commitment is reported; see {self.node.log}")

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
