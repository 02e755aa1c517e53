"""The HTTP side of a process when it is told to stop."""

import asyncio

import httpx
import pytest
from fastapi import APIRouter, Depends

from kit.clock import SystemClock
from kit.web.route_rules import public
from tests.waiting import eventually
from voltstream.runtime.process import Lifespan
from voltstream.runtime.web import Web
from voltstream.settings import load_settings

pytestmark = pytest.mark.usefixtures("processes")  # libraries ask for the kind of machine
LONG_S = 60.0


async def until_stopped(web: Web, up: "asyncio.Future[str]", stop: asyncio.Event) -> None:
    async with web.serving(Lifespan(), load_settings(port=0, drain_s=LONG_S)) as server:
        up.set_result(server.url)
        await stop.wait()


async def test_a_process_that_drains_is_not_ready_and_alive_and_answers() -> None:
    router = APIRouter()

    @router.get("/api/v1/ping", dependencies=[Depends(public)])
    async def ping() -> str:
        return "pong"

    web, up, stop = Web("test", SystemClock()), asyncio.get_running_loop().create_future(), asyncio.Event()
    web.app.include_router(router)
    running = asyncio.create_task(until_stopped(web, up, stop))
    async with httpx.AsyncClient(base_url=await up, trust_env=False) as client:
        assert (await client.get("/ready")).status_code == 200
        stop.set()

        async def not_ready() -> httpx.Response | None:
            answer = await client.get("/ready")
            return answer if answer.status_code == 503 else None

        answer = await eventually(not_ready)
        assert answer is not None
        assert "process: it is stopping" in answer.json()["detail"]
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/api/v1/ping")).json() == "pong"
        running.cancel()  # as by a second signal: it does not drain to the end
        with pytest.raises(asyncio.CancelledError):
            await running
        with pytest.raises(httpx.ConnectError):
            await client.get("/healthz")


async def test_a_process_without_an_api_has_nobody_to_let_go() -> None:
    web, up, stop = Web("test", SystemClock()), asyncio.get_running_loop().create_future(), asyncio.Event()
    stop.set()
    async with asyncio.timeout(LONG_S / 2):
        await until_stopped(web, up, stop)
    assert web.ready == {}
