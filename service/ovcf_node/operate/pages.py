"""The pages: routes, who may use them, and the templates they are made of. Decisions are `decisions`'."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import structlog
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from ovcf_node import __version__
from ovcf_node.config import Settings
from ovcf_node.domain.assessments import Assessment, SecondReading, Verdict, assessable
from ovcf_node.domain.findings import BundleIdentity
from ovcf_node.domain.levels import REPORTED
from ovcf_node.errors import OvcfError, Transient
from ovcf_node.ledger import Ledger, Revision, StaleAttempt
from ovcf_node.observe import audit
from ovcf_node.observe.logging import Pseudonyms
from ovcf_node.operate import configuration, decisions, moments, objects
from ovcf_node.operate.access import Access, Visitor
from ovcf_node.operate.board import Boards
from ovcf_node.operate.names import TOKEN, Names
from ovcf_node.operate.protection import Protection
from ovcf_node.operate.study import Studies
from ovcf_node.operate.users import Role
from ovcf_node.storage.results import Results
from ovcf_node.storage.spool import Spool

_LOG = structlog.get_logger("operate")
_DONE = {
    "retry": "It is tried again.", "hold": "The study is held.", "release": "The study is released.",
    "discard": "The study is discarded.", "assess": "Your second reading is stored; its report is on its way.",
}
_CHANGED = "the series changed since this page was made: look again"
Endpoint = Callable[[Request, Visitor, FormData | None], Response]


@dataclass(frozen=True)
class Surroundings:
    """What the pages look at."""

    settings: Settings
    ledger: Ledger
    results: Results
    spool: Spool
    pseudonyms: Pseudonyms
    bundle: BundleIdentity | None


def pages(around: Surroundings, clock: Callable[[], float] = time.time) -> ASGIApp:
    """Return the pages as an application to be mounted at /."""
    # Outside everything, so that the page that says that a page failed is protected too.
    return Protection(_Pages(around, clock).application(), local_names_only=around.settings.web.open)


class _Pages:
    def __init__(self, around: Surroundings, clock: Callable[[], float]):
        self._around, self._settings, self._ledger, self._clock = around, around.settings, around.ledger, clock
        self._access = Access(around.settings.web, clock)
        self._names = Names(around.pseudonyms, around.ledger)
        self._boards = Boards(around.settings, around.ledger, lambda: around.spool.free_bytes() // 2**20, clock)
        self._studies = Studies(around.settings, around.ledger, around.results, around.spool.root)
        self._templates = Environment(
            loader=PackageLoader("ovcf_node.operate"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.globals |= {
            "version": __version__, "bundle": around.bundle, "installation": around.settings.node.installation,
            "ago": moments.ago, "span": moments.span, "time_of": moments.clock, "iso": moments.iso,
            "person": objects.person, "open_to_all": around.settings.web.open,
            "shadow": around.settings.node.mode == "shadow", "levels": REPORTED,
        }

    def application(self) -> Starlette:
        static = StaticFiles(directory=Path(__file__).parent / "static")
        post = {"methods": ["POST"]}
        return Starlette(
            routes=[
                Route("/", self._guarded(self._status)),
                Route("/live", self._guarded(self._live, touch=False)),
                Route("/sign-in", self._sign_in, methods=["GET", "POST"]),
                Route("/find", self._guarded(self._find, Role.OPERATOR, Role.READER), **post),
                Route("/sign-out", self._guarded(self._sign_out), **post),
                Route("/configuration", self._guarded(self._configuration, Role.OPERATOR)),
                Route("/destination/{name}/{decision}", self._guarded(self._decide_destination, Role.OPERATOR), **post),
                Route("/study/{token}", self._guarded(self._study)),
                Route("/study/{token}/picture/{revision:int}", self._guarded(self._picture)),
                Route("/study/{token}/assess", self._guarded(self._assess, Role.READER), **post),
                Route("/study/{token}/{decision}", self._guarded(self._decide, Role.OPERATOR), **post),
                Mount("/static", static, name="static"),
            ],
            exception_handlers={HTTPException: self._failed, OvcfError: self._troubled, Exception: self._crashed},
        )

    # --- what every route shares -----------------------------------------------------------------------------------

    def _guarded(self, endpoint: Endpoint, *roles: Role, touch: bool = True) -> Callable:
        async def handle(request: Request) -> Response:
            visitor = await run_in_threadpool(self._access.visitor, request, touch=touch)
            if visitor is None:
                if not touch:
                    return Response(status_code=401)
                return RedirectResponse(f"/sign-in?next={quote(_own_path(request.url.path))}", 303)
            request.state.visitor = visitor
            if roles and not visitor.user.may(*roles):
                raise HTTPException(403, "Your role does not allow this.")
            form = None
            if request.method == "POST":
                form = await request.form(max_files=0)
                if not self._access.form_is_ours(request, str(form.get("token", ""))):
                    raise HTTPException(403, "This form is too old or did not come from here: go back, reload, try again.")
            return self._access.keep(request, await run_in_threadpool(endpoint, request, visitor, form))

        return handle

    def _page(self, request: Request, template: str, status: int = 200, **values) -> HTMLResponse:
        visitor: Visitor | None = getattr(request.state, "visitor", None)
        common = {"visitor": visitor, "user": visitor.user if visitor else None, "now": self._clock(),
                  "names": self._names, "path": request.url.path}
        return HTMLResponse(self._templates.get_template(template).render(common | values), status)

    def _failed(self, request: Request, error: HTTPException) -> Response:
        return self._page(request, "error.html", error.status_code, text=error.detail)

    def _troubled(self, request: Request, error: OvcfError) -> Response:
        _LOG.error("page_failed", code=error.code)
        transient = isinstance(error, Transient)
        text = "The node cannot answer just now; try again in a moment." if transient else "The node cannot show this."
        return self._page(request, "error.html", 503 if transient else 500, text=f"{text} ({error.code})")

    def _crashed(self, request: Request, error: Exception) -> Response:
        _LOG.error("defect", error_type=type(error).__name__, exc_info=error)
        return self._page(request, "error.html", 500, text="This page failed. The log says where.")

    # --- looking ---------------------------------------------------------------------------------------------------

    def _status(self, request: Request, visitor: Visitor, _form: FormData | None) -> Response:
        return self._page(request, "status.html", **self._board(visitor))

    def _live(self, request: Request, visitor: Visitor, _form: FormData | None) -> Response:
        return self._page(request, "board.html", **self._board(visitor))

    def _board(self, visitor: Visitor) -> dict:
        board = self._boards.now()
        seen = (row.revision for row in board.rows) if visitor.user.sees_identity else ()
        return {"board": board, "identities": self._studies.identities(seen)}

    def _find(self, request: Request, visitor: Visitor, form: FormData) -> Response:
        # By POST: what is looked for is identity and must not stand in an address.
        found = self._studies.find(str(form.get("number", "")).strip()[:64])
        _LOG.info("searched", account=visitor.user.account, found=len(found))
        if len(found) == 1:
            return RedirectResponse(f"/study/{self._names.study(found[0])}", 303)
        return self._page(request, "found.html", found=found, identities=self._studies.identities(found))

    def _study(self, request: Request, visitor: Visitor, _form: FormData | None) -> Response:
        uid = self._resolve(request)
        identity = self._studies.identity(uid) if visitor.user.sees_identity else None
        self._tell(request, visitor, uid, "R")
        _LOG.info("study_shown", account=visitor.user.account, study=self._names.shown(uid), named=identity is not None)
        return self._page(
            request, "study.html", study=self._studies.view(uid, self._clock()), identity=identity, uid=uid,
            token=request.path_params["token"], done=_DONE.get(request.query_params.get("done", "")), problem=None,
            chosen={},
        )

    def _picture(self, request: Request, _visitor: Visitor, _form: FormData | None) -> Response:
        uid, number = self._resolve(request), request.path_params["revision"]
        try:
            picture = self._studies.picture(uid, number if number < 2**63 else 0)  # more than a database can hold
        except KeyError as error:
            raise HTTPException(404, "There is no such picture.") from error
        return Response(picture, media_type="image/png")

    def _configuration(self, request: Request, _visitor: Visitor, _form: FormData | None) -> Response:
        return self._page(request, "configuration.html", sections=configuration.sections(self._settings))

    def _resolve(self, request: Request) -> str:
        try:
            return self._names.resolve(request.path_params["token"])
        except KeyError as error:
            raise HTTPException(404, "There is no such study.") from error

    # --- deciding --------------------------------------------------------------------------------------------------

    def _decide(self, request: Request, visitor: Visitor, form: FormData) -> Response:
        uid, who, now = self._resolve(request), visitor.user.account, self._clock()
        decision = request.path_params["decision"]
        if decision not in ("retry", "hold", "release", "discard"):
            raise HTTPException(404, "There is no such decision.")

        def decide() -> None:
            if decision == "retry":
                decisions.retry(self._ledger, self._newest(uid, form), now, who)
            elif decision == "release":
                decisions.release(self._ledger, uid, now, who, newest=form.get("stands") == "newest")
            else:
                {"hold": decisions.hold, "discard": decisions.discard}[decision](self._ledger, uid, now, who)

        return self._decided(request, visitor, uid, decision, decide, form)

    def _decide_destination(self, request: Request, visitor: Visitor, _form: FormData) -> Response:
        name, decision = request.path_params["name"], request.path_params["decision"]
        known = {"hold": decisions.hold_destination, "release": decisions.release_destination}
        if decision not in known or name not in {d.name for d in self._settings.destinations}:
            raise HTTPException(404, "There is no such destination or decision.")
        try:
            known[decision](self._ledger, name, self._clock(), visitor.user.account)
        except decisions.NotPossible as error:
            raise HTTPException(409, f"Not done: {error.text}.") from error
        self._boards.forget()
        _LOG.info("decided", decision=decision, account=visitor.user.account, destination=name)
        return RedirectResponse("/", 303)

    def _assess(self, request: Request, visitor: Visitor, form: FormData) -> Response:
        uid = self._resolve(request)

        def assess() -> None:
            revision = self._newest(uid, form)
            findings = self._studies.findings(self._ledger.revisions.reading(revision))
            levels = [v.level for v in assessable(findings)] if findings else []
            said = tuple(a for level in levels if (a := _assessment(level, str(form.get(f"said-{level}", "")))))
            second = SecondReading(visitor.user.account, visitor.user.name, self._clock(), said)
            decisions.assess(self._ledger, revision, second)

        return self._decided(request, visitor, uid, "assess", assess, form)

    def _decided(
        self, request: Request, visitor: Visitor, uid: str, decision: str, decide: Callable[[], None], form: FormData,
    ) -> Response:
        token = request.path_params["token"]
        try:
            decide()
        except (decisions.NotPossible, StaleAttempt) as error:
            problem = _CHANGED if isinstance(error, StaleAttempt) else error.text
            # Nothing that was chosen is lost, unless it was about something else.
            chosen = {} if problem == _CHANGED else dict(form)
            return self._page(
                request, "study.html", 409, study=self._studies.view(uid, self._clock()), uid=uid, token=token, done=None,
                identity=self._studies.identity(uid) if visitor.user.sees_identity else None, problem=problem,
                chosen=chosen,
            )
        self._boards.forget()
        self._tell(request, visitor, uid, "U")
        _LOG.info("decided", decision=decision, account=visitor.user.account, study=self._names.shown(uid))
        return RedirectResponse(f"/study/{token}?done={decision}", 303)

    def _tell(self, request: Request, visitor: Visitor, uid: str, action: str) -> None:
        """Enter in the audit trail whose study somebody looked at ("R") or decided about ("U")."""
        if audit.wanted():
            whose = self._studies.identity(uid)
            study = audit.Study(uid, whose.patient_id, whose.name, whose.accession_number) if whose else audit.Study(uid)
            address = request.client.host if request.client else ""
            audit.accessed(audit.Participant(visitor.user.account, True, address=address), study, action=action)

    def _newest(self, uid: str, form: FormData) -> Revision:
        """Return the revision that a form is about, if it is still the newest of its series."""
        found = [r for r in self._ledger.revisions.newest_of_study(uid) if str(r.id) == form.get("revision")]
        if not found:
            raise decisions.NotPossible(_CHANGED)
        return found[0]

    # --- signing in ------------------------------------------------------------------------------------------------

    async def _sign_in(self, request: Request) -> Response:
        after = _own_path(request.query_params.get("next", "/"))

        def form(problem: str = "", status: int = 200) -> Response:
            return self._access.sign_in_form(request, lambda token: self._page(
                request, "sign_in.html", status, token=token, after=after, problem=problem,
                people=self._settings.web.users is not None,
            ))

        if request.method == "GET":
            return form()
        given = await request.form(max_files=0)
        if not self._access.sign_in_is_ours(request, str(given.get("token", ""))):
            return form("The page was too old: please try again.", 403)
        account, password = str(given.get("account", "")).strip()[:64], str(given.get("password", ""))
        wait = await run_in_threadpool(self._access.sign_in, request, account, password)
        if wait is None:
            return self._access.keep(request, RedirectResponse(after, 303))
        if wait > 0:
            return form(f"Too many failures: try again in {moments.span(max(wait, 1))}.", 429)
        return form("Account and password do not match.", 403)

    def _sign_out(self, request: Request, _visitor: Visitor, _form: FormData | None) -> Response:
        return self._access.sign_out(request, RedirectResponse("/sign-in", 303))


def _assessment(level: str, value: str) -> Assessment | None:
    """Return what a form says of a level; None where nothing was chosen."""
    if not value:
        return None
    verdict, _, corrected = value.partition(":")
    try:
        return Assessment(level, Verdict(verdict), corrected or None)
    except ValueError as error:
        raise HTTPException(400, "This cannot be said of a finding.") from error


def _own_path(path: str) -> str:
    """Return a path of ours to go to after signing in: of a study its page; anything else leads to the status page."""
    token = path.removeprefix("/study/").partition("/")[0]
    if path.startswith("/study/") and TOKEN.fullmatch(token):  # whatever else somebody wrote there is not repeated
        return f"/study/{token}"
    return path if path == "/configuration" else "/"
