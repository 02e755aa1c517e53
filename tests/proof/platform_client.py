"""PlatformClient: replays readings to a running platform, embedded or distributed, and queries it as an operator."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.proof.bolite import PERIOD, STATION, Reading
from tests.proof.expected_bills import TARIFF, TIME_ZONE
from tests.proof.processes import run_once

_ANSWER_S = 60  # against hanging
_CONCURRENT_MAX = 8
_EPOCH = "1970-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True)
class PlatformClient:
    """URLs and tokens of a platform, and requests to it."""

    ingest_url: str
    api_url: str
    device_token: str
    operator_token: str
    environment: Mapping[str, str]  # with the settings of its database
    database_url: str

    async def publish(self, station_id: str = "") -> None:
        """Publish the tariff, for every station or for one, effective from the epoch."""
        target = {"station_id": station_id} if station_id else "default"
        body = {"target": target, "time_zone": TIME_ZONE, "effective_from": _EPOCH, "tariff": TARIFF}
        async with self._operator() as client:
            answer = await client.post("/api/v1/pricing", json=body)
        assert answer.status_code == httpx.codes.CREATED, answer.text

    async def replay(self, file: Path, *options: str) -> None:
        """Replay a file until all of it is acknowledged."""
        settings = {"VOLTSTREAM_DEVICE_TOKEN": self.device_token, "VOLTSTREAM_URL": self.ingest_url}
        progress = {"VOLTSTREAM_DATA_DIR": str(file.parent)}
        sent = await run_once(settings | progress, "replay", str(file), *STATION, *options)
        assert sent["error"] is None, sent

    async def post(self, readings: Sequence[Reading]) -> None:
        """Send readings as their device does."""
        body = [
            {
                "station_id": f"BOLITE-{reading.session_id[:4]}",
                "connector_id": 1,
                **{name: value for name, value in reading._asdict().items() if value != ""},
                **{name: float(getattr(reading, name)) for name in ("power_w", "voltage_v", "current_a")},
            }
            for reading in readings
        ]
        headers = {"Authorization": f"Bearer {self.device_token}"}
        async with httpx.AsyncClient(trust_env=False, timeout=_ANSWER_S) as client:
            answer = await client.post(f"{self.ingest_url}/api/v1/telemetry", json=body, headers=headers)
        assert answer.json() == {"accepted": len(body), "quarantined": []}, answer.text

    async def costs(self) -> dict[str, dict[str, Any]]:
        """The answers of GET /api/v1/sessions/{id}, by the device's id of the session."""
        gate = asyncio.Semaphore(_CONCURRENT_MAX)
        async with self._operator() as client:

            async def ask(session: dict[str, Any]) -> tuple[str, dict[str, Any]]:
                async with gate:
                    answer = await client.get(f"/api/v1/sessions/{session['id']}")
                assert answer.status_code == httpx.codes.OK, answer.text
                return session["session_id"], answer.json()

            sessions = await self._pages(client, "/api/v1/sessions", "sessions", **PERIOD)
            return dict(await asyncio.gather(*(ask(session) for session in sessions)))

    async def invoices(self) -> list[dict[str, Any]]:
        """All documents that finance can list."""
        async with self._operator() as client:
            return await self._pages(client, "/api/v1/billing/invoices", "invoices")

    async def reconcile(self, period: Mapping[str, str] = PERIOD) -> dict[str, Any]:
        """The report of `voltstream billing reconcile`, which fails if there is drift."""
        settings = {"VOLTSTREAM_OPERATOR_TOKEN": self.operator_token, "VOLTSTREAM_URL": self.api_url}
        arguments = ("--from", period["from"], "--to", period["to"])
        return dict(await run_once({**self.environment, **settings}, "billing", "reconcile", *arguments))

    def _operator(self) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {self.operator_token}"}
        return httpx.AsyncClient(base_url=self.api_url, headers=headers, timeout=_ANSWER_S, trust_env=False)

    @staticmethod
    async def _pages(client: httpx.AsyncClient, path: str, items: str, **params: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        following: str | None = str(httpx.URL(path, params={**params, "limit": "1000"}))
        while following is not None:
            answer = await client.get(following)
            assert answer.status_code == httpx.codes.OK, answer.text
            page = answer.json()
            found += page[items]
            following = page["next"]
        return found
