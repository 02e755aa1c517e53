"""The index page of the process (`/`) and the pages of the API's documentation, which need no other host."""

import re
from base64 import b64encode
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter, Depends, FastAPI
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response

from kit.web.route_rules import public

_API: Final = "/api/"
_PREFIX_PARTS: Final = 4  # of a path: "", api, v1, telemetry
_LINKS: Final[Mapping[str, str]] = {
    "documentation": "/docs",
    "reference": "/redoc",
    "openapi": "/openapi.json",
    "ready": "/ready",
    "metrics": "/metrics",
}
_ASSETS: Final = "/docs/assets"
_MEDIA_TYPES: Final[Mapping[str, str]] = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "redoc.standalone.js": "text/javascript",
    "favicon.png": "image/png",
}
_CACHED: Final = {"Cache-Control": "public, max-age=86400"}
# No other host: ReDoc would fetch a logo. Both pages have inline styles; ReDoc searches in a web worker. Of inline
# scripts those of the page itself, by their hash.
_DOCS_POLICY: Final = (
    "default-src 'self'; script-src 'self'{hashes}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "font-src 'self' data:; worker-src blob:"
)
_INLINE_SCRIPT: Final = re.compile(rb"<script>(.*?)</script>", re.DOTALL)
_INDEX_POLICY: Final = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; style-src 'unsafe-inline'",
    "Vary": "Accept",
}

router: Final = APIRouter(dependencies=[Depends(public)], include_in_schema=False)


@router.get("/")
async def index(request: Request) -> Response:
    """Links to everything that the process serves: HTML for browsers, JSON for other clients."""
    about = _about(request.app)
    if "text/html" in request.headers.get("accept", ""):
        return HTMLResponse(_page(about), headers=_INDEX_POLICY)
    return JSONResponse(about, headers={"Vary": "Accept"})


@router.get("/openapi.json")
async def openapi(request: Request) -> Response:
    """The OpenAPI document."""
    return JSONResponse(request.app.openapi())


@router.get("/docs")
async def docs(request: Request) -> Response:
    """Swagger UI."""
    page = get_swagger_ui_html(
        openapi_url=_LINKS["openapi"],
        title=request.app.title,
        swagger_js_url=f"{_ASSETS}/swagger-ui-bundle.js",
        swagger_css_url=f"{_ASSETS}/swagger-ui.css",
        swagger_favicon_url=f"{_ASSETS}/favicon.png",
    )
    return _docs_page(bytes(page.body))


@router.get("/redoc")
async def redoc(request: Request) -> Response:
    """ReDoc."""
    page = get_redoc_html(
        openapi_url=_LINKS["openapi"],
        title=request.app.title,
        redoc_js_url=f"{_ASSETS}/redoc.standalone.js",
        redoc_favicon_url=f"{_ASSETS}/favicon.png",
        with_google_fonts=False,
    )
    return _docs_page(bytes(page.body))


@router.get(f"{_ASSETS}/{{name}}")
async def asset(name: str) -> Response:
    """Scripts and styles of Swagger UI and ReDoc, from the package that ships them."""
    if name not in _MEDIA_TYPES:
        raise HTTPException(404)
    return FileResponse(_assets() / name, media_type=_MEDIA_TYPES[name], headers=_CACHED)


def _docs_page(page: bytes) -> Response:
    digests = (sha256(script).digest() for script in _INLINE_SCRIPT.findall(page))
    hashes = "".join(f" 'sha256-{b64encode(digest).decode()}'" for digest in digests)
    return HTMLResponse(page, headers={"Content-Security-Policy": _DOCS_POLICY.format(hashes=hashes)})


@cache
def _assets() -> Path:
    return Path(str(files("fastapi_offline"))) / "static"


def _about(app: FastAPI) -> dict[str, Any]:
    """Name, version, links, and the APIs that this process serves: their prefixes by tag."""
    apis: dict[str, set[str]] = {}
    for route in iter_route_contexts(app.routes):
        if route.path is not None and route.path.startswith(_API):
            for tag in route.tags:
                apis.setdefault(str(tag), set()).add("/".join(route.path.split("/")[:_PREFIX_PARTS]))
    return {
        "name": app.title,
        "version": app.version,
        "description": app.description,
        "links": dict(_LINKS),
        "apis": {tag: sorted(prefixes) for tag, prefixes in sorted(apis.items())},
    }


def _page(about: Mapping[str, Any]) -> str:
    links = "".join(f'<li><a href="{path}">{path}</a> {escape(name)}</li>' for name, path in about["links"].items())
    apis = "".join(
        f"<li>{', '.join(f'<code>{escape(prefix)}</code>' for prefix in prefixes)} {escape(tag)}</li>"
        for tag, prefixes in about["apis"].items()
    )
    name, version = escape(about["name"]), escape(about["version"])
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name}</title>
<link rel="icon" href="{_ASSETS}/favicon.png">
<style>body {{ font: 1rem/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 40rem; padding: 0 1rem }}</style>
</head>
<body>
<h1>{name} {version}</h1>
<p>{escape(about["description"])}</p>
<ul>{links}</ul>
<h2>APIs</h2>
<ul>{apis or "<li>none in this process</li>"}</ul>
</body>
</html>
"""
