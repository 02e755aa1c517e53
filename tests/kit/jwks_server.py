"""An identity provider's published documents, served on loopback, that a test changes as it likes."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from fastapi import Depends, FastAPI
from fastapi.responses import Response
from prometheus_client import CollectorRegistry
from starlette.requests import Request

from kit.web.app import make_app, serve
from kit.web.route_rules import public


def jwk_of(private: rsa.RSAPrivateKey, kid: str, **more: Any) -> dict[str, Any]:
    """The public key as it is published."""
    document: dict[str, Any] = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(private.public_key()))
    document.pop("key_ops", None)
    return {**document, "kid": kid, "use": "sig", **more}


@dataclass
class Provider:
    """What it publishes, and how often it was asked."""

    url: str = ""
    keys: list[Any] = field(default_factory=list)
    discovery: dict[str, Any] = field(default_factory=dict)
    status: int = 200
    body: bytes | None = None  # instead of the keys
    asked: list[str] = field(default_factory=list)

    @property
    def jwks_url(self) -> str:
        return f"{self.url}/jwks"


@asynccontextmanager
async def running_provider() -> AsyncIterator[Provider]:
    """The documents at /jwks and /.well-known/openid-configuration."""
    provider = Provider()
    app: FastAPI = make_app("provider", "0", registry=CollectorRegistry())

    @app.get("/jwks", dependencies=[Depends(public)])
    async def jwks(request: Request) -> Response:
        provider.asked.append("jwks")
        body = json.dumps({"keys": provider.keys}).encode() if provider.body is None else provider.body
        headers = {"location": "/elsewhere"} if provider.status in (301, 302, 307) else {}
        return Response(body, provider.status, headers, "application/json")

    @app.get("/.well-known/openid-configuration", dependencies=[Depends(public)])
    async def discovery() -> Response:
        provider.asked.append("discovery")
        return Response(json.dumps(provider.discovery), provider.status, media_type="application/json")

    async with serve(app, "127.0.0.1", 0) as server:
        provider.url = server.url
        provider.discovery = {"issuer": server.url, "jwks_uri": provider.jwks_url}
        yield provider
