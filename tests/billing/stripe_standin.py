"""A stand-in of Stripe's API on the loopback: PaymentIntents and Refunds, idempotency keys, scripted faults, and the
signing of webhooks, written apart from the library."""

import asyncio
import hashlib
import hmac
import json
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

KEY = "sk_test_standin"
SECRET = "whsec_standin"  # noqa: S105  # signs only here


@dataclass
class Request:
    """One that came."""

    method: str
    path: str
    headers: dict[str, str]
    body: str

    @property
    def params(self) -> dict[str, str]:
        """Of the form."""
        return dict(parse_qsl(self.body))


@dataclass
class StripeStandIn:
    """The server's state. `faults`: for the next requests: hang and drop do what is asked and lose the answer, a status
    answers with it and does nothing."""

    url: str = ""
    requests: list[Request] = field(default_factory=list)
    faults: deque[str] = field(default_factory=deque)
    intents: dict[str, dict[str, Any]] = field(default_factory=dict)
    refunds: dict[str, dict[str, Any]] = field(default_factory=dict)
    refund_status: str = "succeeded"
    hanging: asyncio.Event = field(default_factory=asyncio.Event)  # a request waits for its answer
    _answers: dict[str, tuple[str, int, dict[str, Any]]] = field(default_factory=dict)

    def signed(self, body: bytes, at_s: int, secret: str = SECRET) -> dict[str, str]:
        """The header of a webhook."""
        digest = hmac.new(secret.encode(), f"{at_s}.".encode() + body, hashlib.sha256).hexdigest()
        return {"stripe-signature": f"t={at_s},v1={digest}"}

    def event(self, type_: str, thing: dict[str, Any], event_id: str = "evt_1") -> bytes:
        """The body of a webhook."""
        return json.dumps({"id": event_id, "object": "event", "type": type_, "data": {"object": thing}}).encode()

    def answer(self, request: Request) -> tuple[int, dict[str, Any]]:
        """Do what is asked."""
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return 401, _error("invalid_request_error", "no such key")
        key = request.headers.get("idempotency-key", "")
        if request.method == "POST" and key in self._answers:
            body, status, answer = self._answers[key]
            return (status, answer) if body == request.body else (400, _error("idempotency_error", "other parameters"))
        status, answer = self._do(request)
        if key:
            self._answers[key] = (request.body, status, answer)
        return status, answer

    def _do(self, request: Request) -> tuple[int, dict[str, Any]]:
        params = request.params
        match request.method, *request.path.strip("/").split("/"):
            case "POST", "v1", "payment_intents":
                return 200, self._intent(params)
            case "GET", "v1", "payment_intents", id_ if id_ in self.intents:
                return 200, self.intents[id_]
            case "POST", "v1", "payment_intents", id_, "cancel" if id_ in self.intents:
                intent = self.intents[id_]
                if intent["status"] == "succeeded":
                    return 400, _error("invalid_request_error", "has succeeded", "payment_intent_unexpected_state")
                intent["status"] = "canceled"
                return 200, intent
            case "POST", "v1", "refunds" if params["payment_intent"] in self.intents:
                return 200, self._refund(params)
        return 404, _error("invalid_request_error", "no such thing", "resource_missing")

    def _intent(self, params: dict[str, str]) -> dict[str, Any]:
        id_ = f"pi_{len(self.intents) + 1}"
        self.intents[id_] = {
            "id": id_,
            "object": "payment_intent",
            "amount": int(params["amount"]),
            "amount_received": 0,
            "currency": params["currency"],
            "status": "requires_payment_method",
            "client_secret": f"{id_}_secret_standin",
            "metadata": {"payment_id": params["metadata[payment_id]"]},
        }
        return self.intents[id_]

    def _refund(self, params: dict[str, str]) -> dict[str, Any]:
        id_ = f"re_{len(self.refunds) + 1}"
        self.refunds[id_] = {
            "id": id_,
            "object": "refund",
            "amount": int(params["amount"]),
            "currency": self.intents[params["payment_intent"]]["currency"],
            "payment_intent": params["payment_intent"],
            "status": self.refund_status,
            "metadata": {"payment_id": params["metadata[payment_id]"]},
        }
        return self.refunds[id_]

    def pay(self, id_: str) -> dict[str, Any]:
        """The payer pays: the intent as the webhook then has it."""
        intent = self.intents[id_]
        intent |= {"status": "succeeded", "amount_received": intent["amount"]}
        return intent


def _error(type_: str, message: str, code: str | None = None) -> dict[str, Any]:
    return {"error": {"type": type_, "message": message, "code": code}}


_FAULTS = {
    "402": _error("card_error", "Your card was declined.", "card_declined"),
    "409": _error("invalid_request_error", "locked", "lock_timeout"),
    "429": _error("rate_limit_error", "too many"),
    "500": _error("api_error", "our side"),
    "400": _error("invalid_request_error", "amount too small", "amount_too_small"),
}


@asynccontextmanager
async def stripe_standin() -> AsyncIterator[StripeStandIn]:
    """The stand-in, served within the block."""
    standin, over = StripeStandIn(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await _read(reader)
            standin.requests.append(request)
            fault = standin.faults.popleft() if standin.faults else ""
            status, answer = (int(fault), _FAULTS[fault]) if fault in _FAULTS else standin.answer(request)
            if fault == "hang":
                standin.hanging.set()
                await over.wait()
            if fault not in ("hang", "drop"):
                body = json.dumps(answer).encode()
                head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
                writer.write(head.encode() + b"Connection: close\r\n\r\n" + body)
                await writer.drain()
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    standin.url = f"http://{host}:{port}"
    try:
        yield standin
    finally:
        over.set()
        server.close()
        await server.wait_closed()


async def _read(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *lines = head.strip().split("\r\n")
    method, path, _ = first.split(" ")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method, path, headers, body.decode())
