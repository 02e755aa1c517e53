"""The exporter of spans to a collector by OTLP/HTTP."""

import os
from collections.abc import Mapping
from typing import Any, Final

import requests
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

_OTEL_CA: Final = ("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE")


class _OwnCas(requests.Session):
    """Verifies by the CAs that it was given: requests itself prefers those of REQUESTS_CA_BUNDLE to a session's."""

    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        return super().merge_environment_settings(url, proxies, stream, self.verify if verify is None else verify, cert)


def otlp_exporter(endpoint: str, ca_file: str) -> OTLPSpanExporter:
    """Of the collector at this base URL. `ca_file`: CAs (PEM) of its certificate; OpenTelemetry's own variables win."""
    named = any(map(os.environ.get, _OTEL_CA))
    options: Mapping[str, Any] = {} if named or not ca_file else {"certificate_file": ca_file, "session": _OwnCas()}
    return OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces", **options)
