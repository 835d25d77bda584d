"""Certificates of DICOM over TLS (PS3.15 Annex B)."""

from pathlib import Path

from pydantic import SecretStr, model_validator

from ovcf_node.config.base import Section


class Tls(Section):
    """One identity for every DICOM port and association of the node; changed files count from the next connection on."""

    certificate: Path | None = None
    """PEM file of this node's certificate chain, shown to whoever connects and to whom we connect."""
    key: Path | None = None
    """PEM file of its private key."""
    key_password: SecretStr | None = None
    """Password of an encrypted key; better given by OVCF_NODE__TLS__KEY_PASSWORD_FILE."""
    ca: Path | None = None
    """PEM file of the authorities that peers' certificates must be signed by."""
    crl: Path | None = None
    """PEM file of these authorities' revocation lists; with it, a peer whose authority has no current list is refused."""

    @model_validator(mode="after")
    def _complete(self) -> "Tls":
        given = [path is not None for path in (self.certificate, self.key, self.ca)]
        if any(given) != all(given):
            raise ValueError("certificate, key and ca belong together")
        if (self.crl or self.key_password) and not self.ready:
            raise ValueError("crl and key_password need certificate, key and ca")
        return self

    @property
    def ready(self) -> bool:
        """Whether there is an identity to use."""
        return self.certificate is not None
