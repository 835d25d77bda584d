"""What every answer of the pages carries and every request must obey, whoever asks."""

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_CSP = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
_ALWAYS = {
    "content-security-policy": _CSP,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
_HSTS = "max-age=31536000"
_LARGEST_FORM = 65536
_LOCAL = ("localhost", "127.0.0.1", "[::1]")


class Protection:
    """Adds the security headers; refuses large forms, foreign posts and, where nobody signs in, foreign host names."""

    def __init__(self, app: ASGIApp, *, local_names_only: bool):
        self._app = app
        self._local_names_only = local_names_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_ALWAYS)
                headers.setdefault("cache-control", "no-store")
                if scope["scheme"] == "https":
                    headers["strict-transport-security"] = _HSTS
            await send(message)

        refusal = self._refusal(scope)
        await (refusal or self._app)(scope, receive, with_headers)

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        headers = Headers(scope=scope)
        if self._local_names_only and headers.get("host", "").rsplit(":", 1)[0] not in _LOCAL:
            # A foreign page whose name was made to point at this machine (DNS rebinding) must not get in.
            return PlainTextResponse("unknown host", 421)
        if scope["method"] in ("GET", "HEAD"):
            return None
        # Browsers say truthfully which site a request comes from; the forms' tokens hold even where they do not.
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return PlainTextResponse("cross-site request", 403)
        length = headers.get("content-length", "")
        if not length.isdigit():
            return PlainTextResponse("length required", 411)
        return PlainTextResponse("too large", 413) if int(length) > _LARGEST_FORM else None
