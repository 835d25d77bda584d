"""Certificates for tests, made by openssl: an authority, a server on loopback, a client."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from dicom_peers import program


@dataclass(frozen=True)
class Authority:
    """A certificate authority in a folder of its own."""

    folder: Path

    @property
    def certificate(self) -> Path:
        return self.folder / "ca.pem"

    def issue(self, name: str, days: int = 2, *, loopback: bool = True) -> tuple[Path, Path]:
        """Return certificate and key of a peer; its name and (unless told) loopback are its alternative names."""
        certificate, key, request = (self.folder / f"{name}.{kind}" for kind in ("pem", "key", "csr"))
        names = self.folder / f"{name}.names"
        names.write_text(f"subjectAltName=DNS:{name}" + (",DNS:localhost,IP:127.0.0.1" if loopback else ""))
        _openssl("req", "-new", *_KEY, "-keyout", key, "-out", request, "-subj", f"/CN={name}")
        _openssl("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.folder / "ca.key",
                 "-CAcreateserial", "-days", days, "-extfile", names, "-out", certificate)
        return certificate, key


    def revoke(self, *certificates: Path) -> Path:
        """Return a revocation list of today with these certificates in it."""
        settings, listed = self.folder / "ca.cnf", self.folder / "ca.crl"
        settings.write_text(
            f"[ca]\ndefault_ca=d\n[d]\ndatabase={self.folder / 'index.txt'}\ndefault_md=sha256\ndefault_crl_days=1\n"
        )
        (self.folder / "index.txt").touch()
        signed = ("-config", settings, "-keyfile", self.folder / "ca.key", "-cert", self.certificate)
        for certificate in certificates:
            _openssl("ca", *signed, "-revoke", certificate)
        _openssl("ca", *signed, "-gencrl", "-out", listed)
        return listed


def encrypted(key: Path, password: str) -> Path:
    """Return a copy of a private key that is encrypted with a password."""
    locked = key.with_suffix(".locked")
    _openssl("pkcs8", "-topk8", "-v2", "aes-256-cbc", "-in", key, "-out", locked, "-passout", f"pass:{password}")
    return locked


def authority(folder: Path) -> Authority:
    """Make an authority."""
    folder.mkdir(parents=True, exist_ok=True)
    made = Authority(folder)
    _openssl("req", "-x509", *_KEY, "-keyout", folder / "ca.key", "-out", made.certificate, "-days", "2",
             "-subj", "/CN=Test authority")
    return made


_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def _openssl(*arguments: object) -> None:
    subprocess.run([program("openssl"), *map(str, arguments)], check=True, capture_output=True, timeout=30)
