"""Real HTTP servers on loopback for tests: any ASGI application under uvicorn, and a STOW-RS server that fails as told."""

import asyncio
import email
import email.policy
import hashlib
import io
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import uvicorn
from pydicom import dcmread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


@contextmanager
def serving(application, **options) -> Iterator[int]:
    """Run an ASGI application under uvicorn on loopback; yields its port."""
    # With its protocol named: asyncio switches Nagle's algorithm off only there, and an answer would wait 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    server = uvicorn.Server(uvicorn.Config(application, log_config=None, access_log=False, lifespan="off", **options))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])), daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + 10
        while not server.started:
            assert time.monotonic() < deadline and thread.is_alive(), "uvicorn did not start"
            time.sleep(0.01)
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


@dataclass
class StowServer:
    """A STOW-RS server that stores (SHA-256 of the data set by SOP Instance UID) unless it is told otherwise.

    reasons   SOP Instance UID -> failure or warning reason in the store response
    answer    what is answered instead of a store response
    tokens    bearer tokens that are welcome; empty: everybody is
    """

    received: dict[str, str] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    reasons: dict[str, int] = field(default_factory=dict)
    answer: Response | None = None
    tokens: tuple[str, ...] = ()
    hang_s: float = 0.0

    def application(self) -> Starlette:
        return Starlette(routes=[
            Route("/dicom-web/studies", self._store, methods=["POST"]),
            Route("/dicom-web/studies", self._search, methods=["GET", "OPTIONS"]),
        ])

    def _denied(self, request: Request) -> bool:
        self.requests.append(request)
        return bool(self.tokens) and request.headers.get("authorization") not in [f"Bearer {t}" for t in self.tokens]

    async def _search(self, request: Request) -> Response:
        if self._denied(request):
            return Response(status_code=401)
        return self.answer or Response(status_code=204)

    async def _store(self, request: Request) -> Response:
        if self._denied(request):
            return Response(status_code=401)
        await asyncio.sleep(self.hang_s)
        body = await request.body()
        if self.answer:
            return self.answer
        head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
        message = email.message_from_bytes(head + body, policy=email.policy.HTTP)
        assert message.get_param("type") == "application/dicom"
        referenced, failed = [], []
        for part in message.iter_parts():
            assert part.get_content_type() == "application/dicom"
            data = part.get_payload(decode=True)
            dataset = dcmread(io.BytesIO(data))
            name = str(dataset.SOPInstanceUID)
            reason = self.reasons.get(name, 0)
            item = {"00081150": _element("UI", str(dataset.SOPClassUID)), "00081155": _element("UI", name)}
            if reason and reason >> 12 != 0xB:
                failed.append(item | {"00081197": _element("US", reason)})
                continue
            self.received[name] = hashlib.sha256(data[144 + dataset.file_meta.FileMetaInformationGroupLength:]).hexdigest()
            referenced.append(item | ({"00081196": _element("US", reason)} if reason else {}))
        answer = {}
        if referenced:
            answer["00081199"] = {"vr": "SQ", "Value": referenced}
        if failed:
            answer["00081198"] = {"vr": "SQ", "Value": failed}
        status = 200 if not failed else 202 if referenced else 409
        return JSONResponse(answer, status, media_type="application/dicom+json")


def _element(vr: str, value: object) -> dict:
    return {"vr": vr, "Value": [value]}
