"""Our side: models, data, processes, and whether the receiver is reached over the network and rejects strangers."""

import socket
import time
from dataclasses import dataclass

from ovcf_node import infer
from ovcf_node.app.process import rights_problem, spool_root
from ovcf_node.commission.check import Check, Outcome, Say, tried
from ovcf_node.config import Peer, Settings, Source
from ovcf_node.errors import Permanent, Transient
from ovcf_node.ledger import Ledger
from ovcf_node.network import associate
from ovcf_node.network.policy import AssociationPolicy
from ovcf_node.storage.spool import Spool

GROUP = "This node"
PREFERRED = "OVCF_COMMISSION"
"""Calling AE title of a commissioning where `receive.sources` lists it."""
_STRANGER = "OVCF_STRANGER"
_LOOK_S = 0.5


@dataclass(frozen=True)
class Approach:
    """How the commissioning reaches the receiver: as a scanner would. `calling` is empty where no AE title fits.

    own_name  a name in our certificate, where the way is encrypted
    """

    address: str
    calling: str
    own_name: str = ""

    def remote(self, settings: Settings, *, calling: str = "", encrypted: bool = False) -> associate.Remote:
        """Return the receiver: on its plain port where that is open, unless `encrypted` asks for the other."""
        encrypted = encrypted or not settings.receive.plain
        return associate.Remote(
            self.address, settings.receive.tls_port if encrypted else settings.receive.port, settings.receive.ae_titles[0],
            calling or self.calling, encrypted=encrypted, expected_name=self.own_name or None,
        )


def approach(settings: Settings, address: str | None, calling: str | None, own_name: str | None = None) -> Approach:
    """Choose the address and the calling AE title, unless they are given.

    The address is the one by which the destinations are reached, so that the way goes over the network card and not over
    loopback alone. Our own certificate is expected to hold the name of this machine.
    """
    address = address or _address(settings)
    admitted = _admitted(settings.receive.ae_titles, settings.receive.sources, address)
    return Approach(address, calling or admitted, (own_name or socket.getfqdn()) if settings.receive.tls_port else "")


def _admitted(called: tuple[str, ...], sources: tuple[Source, ...] | tuple[Peer, ...], address: str) -> str:
    policy = AssociationPolicy(called, sources)
    titles = sorted((s.ae_title for s in sources), key=lambda title: title != PREFERRED)
    welcome = (t for t in titles if not policy.rejection(called=called[0], calling=t, address=address))
    return next(welcome, "")


def querying_as(settings: Settings) -> str:
    """Return a peer's AE title under which we may query ourselves over loopback, empty where there is none."""
    peers = tuple(p for p in settings.query.peers if p.find)
    return _admitted(settings.query.ae_titles, peers, local(settings.query.host)) if peers else ""


def local(host: str) -> str:
    """Return the address by which this machine reaches a listener of its own."""
    return "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104


def _address(settings: Settings) -> str:
    if settings.receive.host not in ("0.0.0.0", "::"):  # noqa: S104
        return settings.receive.host
    for destination in settings.destinations:
        if destination.host:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                try:
                    probe.connect((destination.host, destination.port))  # no packet leaves: the kernel picks the way
                    return probe.getsockname()[0]
                except OSError:
                    continue
    return "127.0.0.1"


def check(settings: Settings, ledger: Ledger, way: Approach, start_s: float, say: Say) -> list[Check]:
    """Try everything on our side; the processes may take `start_s` seconds until all are alive, `say` hears of the wait."""
    return [
        tried(GROUP, "Model bundle loads, its self-test agrees", lambda: _bundle(settings),
              "Compare the bundle's folder with the one that was delivered; `ovcf-node check` names the file."),
        tried(GROUP, "Data volume has room", lambda: _room(settings),
              "Give the volume more space: below receive.min_free_mb scanners are answered 0xA700."),
        _closed(settings),
        tried(GROUP, "Every process is alive", lambda: _processes(settings, ledger, start_s, say),
              "Start the node (`ovcf-node serve`) and look at its log."),
        _reached(settings, way),
        _strangers(settings, way),
        _encrypted(settings, way),
    ]


def _bundle(settings: Settings) -> str:
    infer.load(settings.node.bundle, providers=settings.infer.providers, threads=settings.infer.threads)
    bundle = infer.load_identity(settings.node.bundle)
    return f"{bundle.name} {bundle.version} ({bundle.status}), digest {bundle.digest[:12]}"


def _room(settings: Settings) -> str:
    free = Spool(spool_root(settings)).free_bytes() // 2**20
    if free < settings.receive.min_free_mb:
        raise Transient("low_disk", f"{free} MB free, receive.min_free_mb is {settings.receive.min_free_mb}")
    return f"{free / 1024:.0f} GB free; C-STORE is refused below {settings.receive.min_free_mb} MB"


def _closed(settings: Settings) -> Check:
    name = "Data folder is closed to other users of the machine"
    words = rights_problem(settings.node.data)
    if not words:
        return Check(GROUP, name, Outcome.PASS, "no rights for others")
    return Check(GROUP, name, Outcome.NOT_CONFIGURED, words,
                 "Mend it where other people or programs have accounts; in a container of its own nobody else is there.")


def _processes(settings: Settings, ledger: Ledger, start_s: float, say: Say) -> str:
    """A node that was started a moment ago receives before its judge is at work: `start_s` is what it may take."""
    deadline = time.monotonic() + start_s
    if missing := _missing(settings, ledger):
        say(f"waiting up to {start_s:.0f} s for {', '.join(missing)}")
    while missing := _missing(settings, ledger):
        if time.monotonic() > deadline:
            raise Transient("not_running", ", ".join(missing))
        time.sleep(_LOOK_S)
    return f"{', '.join(settings.roles)}; a judge is at work"


def _missing(settings: Settings, ledger: Ledger) -> list[str]:
    now = time.time()
    alive = ledger.leases.roles_alive(now)
    missing = [role for role in settings.roles if role not in alive]
    return missing + ([] if "judge" in ledger.leases.living("", now) else ["judge"])


def _reached(settings: Settings, way: Approach) -> Check:
    name = "The receiver answers a C-ECHO over the network"
    if not way.calling:
        return Check(GROUP, name, Outcome.FAIL, f"no calling AE title of receive.sources may come from {way.address}",
                     f'Add {{ ae_title = "{PREFERRED}", address = "{way.address}" }} to receive.sources, reload (SIGHUP).')
    called = settings.receive.ae_titles[0]

    def echo() -> str:
        remote = way.remote(settings)
        seconds = associate.echo(remote)
        return f"{way.calling} to {called} at {way.address}:{remote.port}, {seconds * 1000:.0f} ms"

    return tried(GROUP, name, echo, "Is the port published, and receive.host not loopback? The log says "
                 "association_rejected with title and address when it came in and was not welcome.")


def _encrypted(settings: Settings, way: Approach) -> Check:
    name = "DICOM over TLS"
    if settings.receive.tls_port is None:
        return Check(GROUP, name, Outcome.NOT_CONFIGURED, "associations are not encrypted",
                     "Keep the DICOM port inside the imaging network, behind a firewall, or set receive.tls_port.")

    def echo() -> str:
        seconds = associate.echo(way.remote(settings, encrypted=True))
        plain = "the plain port is open too" if settings.receive.plain else "no plain port"
        return f"{way.calling} at {way.address}:{settings.receive.tls_port}, {seconds * 1000:.0f} ms; {plain}"

    return tried(GROUP, name, echo, f'Does our certificate hold the name "{way.own_name}"? If it has another: --own-name.')


def _strangers(settings: Settings, way: Approach) -> Check:
    def rejected() -> str:
        try:
            associate.echo(way.remote(settings, calling=_STRANGER))
        except Permanent as error:
            if error.code == "association_rejected":
                return f"{_STRANGER} was rejected: {error.text}"
            raise
        raise Permanent("stranger_admitted", f"{_STRANGER} opened an association")

    return tried(GROUP, "An unknown calling AE title is rejected", rejected,
                 "receive.sources must list the scanners and routers of the site and nobody else.")
