"""Where results go."""

from ipaddress import ip_network
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from ovcf_node.config.base import AETitle, Name, Port, Section


class Destination(Section):
    name: Name
    """Name in logs, commands and metrics."""
    type: Literal["dicom", "folder", "stow"]
    """dicom: C-STORE; folder: one file per instance; stow: STOW-RS to a DICOMweb server."""
    ae_title: AETitle | None = None
    """dicom: called AE title."""
    host: str | None = None
    """dicom: address."""
    port: Port | None = None
    """dicom: port."""
    tls: bool = False
    """dicom: whether that port speaks TLS; needs [tls]."""
    tls_name: str | None = None
    """dicom: name that its certificate must hold; unset: host."""
    calling_ae_title: AETitle = "OVCF_NODE"
    """dicom: calling AE title we use."""
    path: Path | None = None
    """folder: where instances are written."""
    url: str | None = None
    """stow: base URL of the DICOMweb service; instances go to URL/studies."""
    token: Path | None = None
    """stow: file with the bearer token to present; read anew for every delivery."""
    certificate: Path | None = None
    """stow: PEM file of our client certificate, where the server wants mutual TLS."""
    key: Path | None = None
    """stow: PEM file of its private key."""
    ca: Path | None = None
    """stow: PEM file of the authorities that may have signed the server's certificate; unset: the system's."""
    objects: tuple[Literal["seg_vertebrae", "seg_fractures", "summary", "sr"], ...] = (
        "seg_vertebrae", "seg_fractures", "summary", "sr",
    )
    """Which objects this destination gets."""
    sr_class: Literal["88.34", "88.33", "88.22"] = "88.34"
    """SOP class of the structured report: Comprehensive 3D, Comprehensive or Enhanced SR."""
    sr_fallback: tuple[Literal["88.33", "88.22"], ...] = ()
    """SOP classes tried in this order where the destination does not take the report in sr_class; empty: stop and show."""
    sr_profile: Literal["air", "ohif-text"] = "air"
    """air: TID 1500 as IHE AIR wants it; ohif-text: a root title that makes OHIF show the report as text."""
    rejection_notes: bool = True
    """Whether replaced and withdrawn results are taken back by a rejection note (Key Object Selection, IHE RAD IOCM)."""
    shadow: bool = False
    """Whether it gets results in shadow mode too, such as a test PACS."""
    ask_first: bool = True
    """dicom: before objects of a result go there, ask by C-FIND whether results are there that the ledger forgot."""
    retry_first_s: float = Field(default=10.0, gt=0)
    """Delay before the second attempt, seconds; doubles with every attempt."""
    retry_cap_s: float = Field(default=900.0, gt=0)
    """Longest delay between attempts, seconds."""
    timeout_s: float = Field(default=30.0, gt=0)
    """Time for each step of an association or request, seconds."""
    final: Literal["accepted", "found", "committed"] = "accepted"
    """When an object counts as done there: accepted; found by a C-FIND afterwards; committed by storage commitment."""
    confirm_after_s: float = Field(default=600.0, gt=0)
    """found, committed: time to wait for that before asking again, seconds; doubles with every request, up to a day."""
    report_from: tuple[str, ...] = ()
    """committed: addresses, networks or names that its own associations may come from to report; empty: host."""
    confirm_requests: int = Field(default=6, ge=1)
    """found, committed: how often it is asked, and an object it does not have is sent again, before that is shown."""

    @field_validator("url")
    @classmethod
    def _without_slash(cls, url: str | None) -> str | None:
        return url.rstrip("/") if url else url

    @field_validator("report_from")
    @classmethod
    def _places(cls, places: tuple[str, ...]) -> tuple[str, ...]:
        for place in places:
            if "/" in place:
                ip_network(place, strict=False)  # raises ValueError
        return places

    @model_validator(mode="after")
    def _complete(self) -> "Destination":
        needed = {"dicom": ("ae_title", "host", "port"), "folder": ("path",), "stow": ("url",)}[self.type]
        missing = [field for field in needed if getattr(self, field) is None]
        if missing:
            raise ValueError(f"a destination of type {self.type} needs {', '.join(missing)}")
        if self.type == "stow":
            self._check_url()
        if self.final != "accepted" and self.type != "dicom":
            raise ValueError(f"a destination of type {self.type} cannot say more than accepted")
        if self.sr_class in self.sr_fallback or len(set(self.sr_fallback)) < len(self.sr_fallback):
            raise ValueError("sr_fallback must name other classes than sr_class, each once")
        return self

    def _check_url(self) -> None:
        url = urlsplit(self.url)
        if url.scheme not in ("http", "https") or not url.hostname or "@" in url.netloc or url.query or url.fragment:
            raise ValueError("url must be http(s)://host[:port]/path without user, query or fragment")
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together")
        secret = self.token or self.certificate
        if secret and url.scheme != "https" and url.hostname not in ("127.0.0.1", "::1", "localhost"):
            raise ValueError("a token or certificate needs https")
