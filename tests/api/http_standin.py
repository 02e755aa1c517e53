"""A local HTTP server that answers as a test says, in the place of a provider."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Asked:
    """A request that it got."""

    method: str
    path: str
    headers: Mapping[str, str]  # names in lower case
    body: bytes


@dataclass
class StandIn:
    """`answers`: by path, a status, headers and a body; None: it takes the request and says nothing."""

    url: str
    answers: dict[str, tuple[int, Mapping[str, str], bytes] | None] = field(default_factory=dict)
    default: tuple[int, Mapping[str, str], bytes] | None = (200, {}, b"{}")
    asked: list[Asked] = field(default_factory=list)

    def says(self, status: int, body: bytes = b"{}", **headers: str) -> None:
        """What it answers from now on, but for paths of their own."""
        self.default = (status, {name.replace("_", "-"): value for name, value in headers.items()}, body)

    def is_silent(self) -> None:
        """It answers nothing from now on."""
        self.default = None


@asynccontextmanager
async def http_standin() -> AsyncIterator[StandIn]:
    """Served on a free port of the loopback address within the block."""
    made = StandIn("")
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await _one(made, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
            tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


async def _one(made: StandIn, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = head[0].split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    made.asked.append(Asked(method, path, headers, body))
    answer = made.answers.get(path, made.default)
    if answer is None:
        await reader.read()  # until the client gives up
        return
    status, more, content = answer
    lines = [f"HTTP/1.1 {status} X", f"content-length: {len(content)}", "connection: close"]
    lines += [f"{name}: {value}" for name, value in more.items()]
    writer.write("\r\n".join([*lines, "", ""]).encode() + content)
    await writer.drain()
