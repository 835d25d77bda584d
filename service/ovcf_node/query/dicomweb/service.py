"""What every resource of DICOMweb needs: the catalogue, the stored bytes, and the addresses of what is served."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog
from starlette.requests import Request

from ovcf_node.ledger import Catalogue, Result
from ovcf_node.ledger.catalogue import TooManyMatches
from ovcf_node.query.dicomweb.answers import Problem, not_found
from ovcf_node.storage import atomic

_LOG = structlog.get_logger("query")
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_MOST_INSTANCES = 1000  # in one answer; a study has a handful of results
_LEVELS = {"study": "StudyInstanceUID", "series": "SeriesInstanceUID", "instance": "SOPInstanceUID"}


@dataclass(frozen=True)
class Service:
    """The results as DICOMweb serves them, the reports in one dialect."""

    catalogue: Catalogue
    results: Path
    dialect: str
    public_url: str | None = None

    def named(self, request: Request) -> list[Result]:
        """Return the stored instances that the path names; raises Problem 404 where there is none."""
        try:
            found = self.catalogue.retrieve(named_in(request), self.dialect, _MOST_INSTANCES)
        except TooManyMatches as error:
            raise Problem(413, f"more than {_MOST_INSTANCES} instances; retrieve it series by series") from error
        if not found:
            raise not_found()
        return found

    def file(self, result: Result) -> Path:
        """Return where the bytes of an instance lie, after a look whether they are still those that were stored."""
        path = self.results / result.path
        with atomic.storage_errors():
            try:
                with path.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
            except FileNotFoundError:
                digest = None
        if digest != result.sha256:
            _LOG.error("result_damaged", role=result.role, revision=result.revision_id)
            raise Problem(500, "the stored instance is missing or changed: not sent")
        return path

    def address(self, request: Request, *, study: str, series: str | None = None, instance: str | None = None) -> str:
        """Return the absolute URL of a study, series or instance as this client reaches it."""
        base = self.public_url or f"{request.url.scheme}://{request.url.netloc}"
        parts = [f"{base}{request.scope.get('root_path', '')}", "studies", study]
        parts += ["series", series] if series else []
        parts += ["instances", instance] if instance else []
        return "/".join(parts)


def named_in(request: Request) -> Mapping[str, str]:
    """Return the keys that the path names. Anything but a UID is refused: in a query it would be a wildcard or a list."""
    keys = {}
    for parameter, keyword in _LEVELS.items():
        if parameter in request.path_params:
            uid = request.path_params[parameter]
            if len(uid) > 64 or not _UID.fullmatch(uid):
                raise Problem(400, f"{keyword} in the path is not a UID")
            keys[keyword] = uid
    return keys
