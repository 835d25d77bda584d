"""Whoever says nothing, or stops half way, does not keep a connection; whoever waits for us does."""

import socket
import time

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from ovcf_node.app import connections
from ovcf_node.config import Web
from web_server import serving

GET = b"GET /slow HTTP/1.1\r\nHost: node\r\n\r\n"


def slow(_request: Request) -> PlainTextResponse:
    time.sleep(0.6)
    return PlainTextResponse("answered")


async def form(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(len(await request.body())))


def answered(client: socket.socket) -> bool:
    text = b""
    while not text.endswith(b"answered"):
        piece = client.recv(1000)
        if not piece:
            return False
        text += piece
    return text.startswith(b"HTTP/1.1 200 OK")


def ended(client: socket.socket) -> bool:
    client.settimeout(3)
    try:
        return client.recv(100) == b""
    except ConnectionResetError:
        return True


@pytest.fixture
def port(monkeypatch):
    monkeypatch.setattr(connections, "_PATIENCE_S", 0.15)
    application = Starlette(routes=[Route("/slow", slow), Route("/form", form, methods=["POST"])])
    with serving(application, timeout_keep_alive=5, **connections.server_options(Web())) as port:
        yield port


@pytest.mark.parametrize("said", [
    b"", b"GET /slow HTTP/1.1\r\nHos", b"POST /form HTTP/1.1\r\nHost: node\r\nContent-Length: 9\r\n\r\nhalf",
])
def test_a_request_that_does_not_arrive_ends_the_connection(port, said):
    with socket.create_connection(("127.0.0.1", port), 5) as client:
        client.sendall(said)
        assert ended(client)


def test_a_second_request_that_does_not_arrive_ends_the_connection(port):
    with socket.create_connection(("127.0.0.1", port), 5) as client:
        client.sendall(GET)
        assert answered(client)
        client.sendall(GET[:12])
        assert ended(client)


def test_who_waits_for_us_is_answered(port):
    with socket.create_connection(("127.0.0.1", port), 5) as client:
        for _ in range(2):  # and stays connected in between
            client.sendall(GET)
            assert answered(client)
            time.sleep(0.5)
