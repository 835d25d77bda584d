"""What goes wrong, as an HTTP answer. Never with the request's own words: a query string names patients."""

from starlette.responses import JSONResponse, Response

DICOM_JSON = "application/dicom+json"

PRIVATE = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
"""Headers of every answer: nothing of a patient stays in a cache on the way."""


class Problem(Exception):
    """An answer other than success; `text` is ours and holds no identity."""

    def __init__(self, status: int, text: str, headers: dict[str, str] | None = None):
        super().__init__(text)
        self.status = status
        self.text = text
        self.headers = headers or {}

    def response(self) -> Response:
        """Return it as a problem document (RFC 9457)."""
        return JSONResponse(
            {"status": self.status, "title": self.text}, self.status, headers=PRIVATE | self.headers,
            media_type="application/problem+json",
        )


def not_found() -> Problem:
    """Return the one answer for what is not there, is held back, or may not be seen: they look alike."""
    return Problem(404, "no such study, series or instance here")
