"""Reads and decompresses request bodies within bounds."""

import zlib
from collections.abc import Callable
from typing import Final

import zstandard
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from ingest.errors import MalformedBody, TooLarge, UnsupportedMedia

# Concatenated gzip members or zstd frames of one body. Encoders write one; each costs set-up and a copy of the rest.
PIECES_MAX: Final = 64
# zstd is fed this much at a time. A block is at least 4 bytes and becomes at most 128 KiB, so what inflates before
# the bound is checked again is at most 1,024 / 4 x 128 KiB = 32 MiB.
_ZSTD_CHUNK_BYTES: Final = 1_024
_ZSTD_WINDOW_BYTES_MAX: Final = 8 << 20  # RFC 8878: what every decoder should support; more costs memory per request
_GZIP_WBITS: Final = 16 + zlib.MAX_WBITS


async def read_body(receive: Receive, on_part: Callable[[int], None]) -> bytes:
    """The whole body; `receive` bounds it (kit.web.request_body).

    `on_part` is called with the size of every part that is kept while more is to come, and may raise. Raises
    ClientDisconnect.
    """
    message = await receive()
    body: bytes = message.get("body", b"")
    if message["type"] == "http.request" and not message.get("more_body", False):
        return body
    parts: list[bytes] = []
    while True:
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        part: bytes = message.get("body", b"")
        on_part(len(part))
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)
        message = await receive()


def inflate(body: bytes, encoding: str, bytes_max: int) -> bytes:
    """The body without its Content-Encoding. Raises UnsupportedMedia, TooLarge (a bomb), MalformedBody (broken)."""
    if encoding in ("", "identity"):
        return body
    if encoding == "gzip":
        return _gunzip(body, bytes_max)
    if encoding == "zstd":
        return _unzstd(body, bytes_max)
    raise UnsupportedMedia("this Content-Encoding is not read; send gzip, zstd or identity")


def _gunzip(body: bytes, bytes_max: int) -> bytes:
    inflated = b""
    for _ in range(PIECES_MAX):
        stream = zlib.decompressobj(_GZIP_WBITS)
        try:
            inflated += stream.decompress(body, bytes_max + 1 - len(inflated))
        except zlib.error as error:
            raise MalformedBody(f"the gzip stream is broken: {error}; send it again") from None
        if len(inflated) > bytes_max:
            raise _bomb(bytes_max)
        if not stream.eof:
            raise MalformedBody("the gzip stream ends too early; send all of it")
        body = stream.unused_data
        if not body:
            return inflated
    raise MalformedBody(f"the gzip stream has more than {PIECES_MAX} members; compress the body in one")


def _unzstd(body: bytes, bytes_max: int) -> bytes:
    parts: list[bytes] = []
    size = at = 0
    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES_MAX)
    for _ in range(PIECES_MAX):
        stream = decompressor.decompressobj()
        while not stream.eof:
            chunk = body[at : at + _ZSTD_CHUNK_BYTES]
            if not chunk:
                raise MalformedBody("the zstd stream ends too early; send all of it")
            try:
                parts.append(stream.decompress(chunk))
            except zstandard.ZstdError as error:
                raise MalformedBody(
                    f"the zstd stream is broken: {error}; send it again, window at most 8 MiB"
                ) from None
            at += len(chunk)
            size += len(parts[-1])
            if size > bytes_max:
                raise _bomb(bytes_max)
        at -= len(stream.unused_data)
        if at == len(body):
            return b"".join(parts)
    raise MalformedBody(f"the zstd stream has more than {PIECES_MAX} frames; compress the body in one")


def _bomb(bytes_max: int) -> TooLarge:
    return TooLarge(f"the body inflates to more than {bytes_max} bytes; send the readings in smaller batches")
