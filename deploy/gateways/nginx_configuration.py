"""nginx.conf of a site: nginx 1.22 or later with the modules of Debian's packages."""

from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Final

from deploy.gateways.routing import Routing
from deploy.gateways.site import CERTIFICATE_HEADERS, CONNECT_S, HEAD_S, IDLE_S, READ_S, Site

# The proxy's own refusals, in the form of the services' (RFC 9457). By status: what is said, and more of the head.
_RETRY: Final = "add_header Retry-After 1 always;"
_PROBLEMS: Final = {
    400: ("this is no HTTP request that can be read, or it came without TLS", ""),
    404: ("there is nothing of that name", ""),
    413: ("the body is longer than any operation of this service takes", ""),
    414: ("the address of the request is too long", ""),
    429: ("your address sends more requests, or has more under way, than one may", _RETRY),
    431: ("the head of the request is too long; send shorter headers", ""),
    502: ("the service does not answer; send the request again", _RETRY),
    503: ("the service does not answer; send the request again", _RETRY),
    504: ("the service did not answer in time; ask for less, or later", _RETRY),
}
_OWN_STATUSES: Final = {494: 431, 497: 400}  # nginx's: head too long, plain HTTP
_NO_CERTIFICATE: Final = "\n".join(f'{{indent}}proxy_set_header {name} "";' for name in CERTIFICATE_HEADERS)
_HSTS: Final = 'add_header Strict-Transport-Security "max-age=31536000" always;'


def nginx_configuration(site: Site, routings: Sequence[Routing]) -> str:
    """The text of nginx.conf."""
    blocks = [_HEAD, *_limits(site), *_upstreams(site, routings), *_server(site, routings), "}"]
    return "\n".join(blocks) + "\n"


_HEAD: Final = """\
# Made by `python -m deploy.gateways`: do not edit. Relative paths are below nginx's prefix (-p).
daemon off;
pid nginx.pid;
error_log stderr;
worker_processes auto;
worker_rlimit_nofile 65536;
events { worker_connections 16384; }
http {
  server_tokens off;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;

  # Ids: a service keeps the client's X-Correlation-ID and traceparent, or makes them, and answers with the id; it is
  # logged. Only answers that no service gave have an id of nginx's.
  map $http_x_correlation_id $problem_id {
    "~^[!#-\\[\\]-~]{1,128}$" $http_x_correlation_id;
    default $request_id;
  }
  map $upstream_http_x_correlation_id $logged_id {
    "" $problem_id;
    default $upstream_http_x_correlation_id;
  }
  log_format json escape=json '{"time":"$time_iso8601","address":"$remote_addr","method":"$request_method",'
    '"path":"$uri","status":$status,"bytes":$body_bytes_sent,"seconds":$request_time,"upstream":"$upstream_addr",'
    '"upstream_status":"$upstream_status","correlation_id":"$logged_id","traceparent":"$http_traceparent"}';
  access_log /dev/stdout json;
"""


def _limits(site: Site) -> Iterator[str]:
    for network in site.balancers:
        yield f"  set_real_ip_from {network};"
    if site.balancers:
        yield "  real_ip_header X-Forwarded-For;\n  real_ip_recursive on;"
    yield f"""\
  # Of one address; of IPv6 its /64, the first eight octets of sixteen.
  map $binary_remote_addr $network {{
    "~(?s)^(?<first>.{{8}}).{{8}}$" $first;
    default $binary_remote_addr;
  }}
  limit_req_zone $network zone=requests:16m rate={site.requests_per_s}r/s;
  limit_conn_zone $network zone=at_once:16m;
"""


def _upstreams(site: Site, routings: Sequence[Routing]) -> Iterator[str]:
    yield "  # A server that refuses three connections is left alone for two seconds, by all workers (zone)."
    for name, servers in (*((one.service, site.servers_of(one.service)) for one in routings), ("ocpp", site.ocpp)):
        if servers:
            yield f"  upstream {name} {{"
            yield f"    zone {name} 64k;"
            yield from (f"    server {server} max_fails=3 fail_timeout=2s;" for server in servers)
            if name != "ocpp":
                yield "    keepalive 64;\n    keepalive_requests 100000;"
                yield f"    keepalive_timeout {site.upstream_idle_s}s;"
            yield "  }"


def _server(site: Site, routings: Sequence[Routing]) -> Iterator[str]:
    yield f"""
  server {{
    listen {site.listen} ssl http2 backlog=2048;
    ssl_certificate {site.certificate};
    ssl_certificate_key {site.key};
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_ciphers ECDHE+AESGCM:ECDHE+CHACHA20;
    ssl_session_cache shared:tls:16m;
    ssl_session_timeout 1h;
    ssl_session_tickets off;

    client_header_timeout {HEAD_S}s;
    client_body_timeout {HEAD_S}s;
    send_timeout 60s;
    keepalive_timeout {IDLE_S}s;
    large_client_header_buffers 4 16k;
    client_body_buffer_size 256k;
    client_max_body_size 256k;

    limit_req zone=requests burst={site.requests_burst} nodelay;
    limit_conn at_once {site.requests_at_once};
    limit_req_status 429;
    limit_conn_status 429;

    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Host $host;
    proxy_set_header X-Forwarded-For $remote_addr;
    proxy_set_header X-Forwarded-Proto $scheme;
{_NO_CERTIFICATE.format(indent="    ")}
    proxy_connect_timeout {CONNECT_S}s;
    proxy_send_timeout 60s;
    proxy_read_timeout {READ_S}s;  # answers that stream are not buffered: their X-Accel-Buffering says so
    proxy_next_upstream error timeout;  # of POST and PATCH only those of which nothing was sent
    proxy_next_upstream_tries 3;
    proxy_next_upstream_timeout 10s;
    {_HSTS}
"""
    for one in routings:
        yield from _locations(one)
    if site.ocpp:
        yield _OCPP
    yield "    location / { return 404; }  # /metrics, /ready and /docs of a service are not public"
    yield from _problems()
    yield "  }"


def _locations(routing: Routing) -> Iterator[str]:
    below = "|".join(prefix.replace(".", r"\.") for prefix in routing.prefixes)
    places = [*(f"= {path}" for path in routing.exact), *((f"~ ^(?:{below})(?:/|$)",) if below else ())]
    for place in places:
        yield f"    location {place} {{"
        yield f"      client_max_body_size {routing.body_bytes_max};"
        if routing.repeatable:
            yield "      proxy_next_upstream error timeout non_idempotent;  # a reading that comes twice is stored once"
        yield f"      proxy_pass http://{routing.service};\n    }}"


_OCPP: Final = f"""\
    location /ocpp/ {{
      proxy_pass http://ocpp;
      proxy_set_header Connection upgrade;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto $scheme;
{_NO_CERTIFICATE.format(indent="      ")}
      proxy_read_timeout 1h;  # chargers send a heartbeat, which the server sets
      proxy_send_timeout {READ_S}s;
    }}"""


def _problems() -> Iterator[str]:
    for status in _PROBLEMS:
        yield f"    error_page {status} @{status};"
    for own, status in _OWN_STATUSES.items():
        yield f"    error_page {own} ={status} @{status};"
    for status, (detail, more) in _PROBLEMS.items():
        body = (
            f'{{"type":"about:blank","title":"{HTTPStatus(status).phrase}","status":{status},'
            f'"detail":"{detail}","correlation_id":"$problem_id"}}'
        )
        yield f"""\
    location @{status} {{
      default_type application/problem+json;
      add_header X-Correlation-ID $problem_id always;
      add_header Cache-Control no-store always;
      {_HSTS}{f"{chr(10)}      {more}" if more else ""}
      return {status} '{body}';
    }}"""
