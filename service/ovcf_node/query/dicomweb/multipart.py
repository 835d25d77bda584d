"""Answers of several parts (multipart/related, RFC 2387; PS3.18 8.6.1.2), streamed: memory holds one piece."""

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from starlette.responses import Response, StreamingResponse

from ovcf_node.query.dicomweb.answers import PRIVATE
from ovcf_node.storage import atomic

_PIECE = 2**18


@dataclass(frozen=True)
class Part:
    """One part: bytes, or a file that is sent as it is."""

    media_type: str
    content: bytes | Path

    def size(self) -> int:
        """Return its length, bytes. Raises Transient (`storage`) where the file cannot be read."""
        if isinstance(self.content, bytes):
            return len(self.content)
        with atomic.storage_errors():
            return self.content.stat().st_size

    def pieces(self) -> Iterator[bytes]:
        """Yield the content, a piece at a time."""
        if isinstance(self.content, bytes):
            yield self.content
            return
        with self.content.open("rb") as file:
            while piece := file.read(_PIECE):
                yield piece


def single(part: Part) -> Response:
    """Return one part as a whole answer."""
    headers = PRIVATE | {"Content-Length": str(part.size())}
    return StreamingResponse(part.pieces(), media_type=part.media_type, headers=headers)


def related(kind: str, parts: Sequence[Part]) -> Response:
    """Return parts of media type `kind` as one multipart answer of known length."""
    boundary = uuid.uuid4().hex
    heads = [f"--{boundary}\r\nContent-Type: {part.media_type}\r\n\r\n".encode() for part in parts]
    end = f"--{boundary}--\r\n".encode()
    length = sum(len(head) + part.size() + 2 for head, part in zip(heads, parts, strict=True)) + len(end)

    def body() -> Iterator[bytes]:
        for head, part in zip(heads, parts, strict=True):
            yield head
            yield from part.pieces()
            yield b"\r\n"
        yield end

    return StreamingResponse(
        body(), headers=PRIVATE | {"Content-Length": str(length)},
        media_type=f'multipart/related; type="{kind}"; boundary={boundary}',
    )
