"""A private nginx that passes requests on, as docs/security.md says that a reverse proxy does."""

import os
import shutil
from pathlib import Path
from typing import ClassVar, Final

from deploy.servers.base import Server
from deploy.servers.errors import ServerUnavailable
from deploy.servers.ports import LOOPBACK

_CONFIGURATION: Final = """\
daemon off;
master_process off;
pid {home}/nginx.pid;
error_log stderr;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {home}/body;
  proxy_temp_path {home}/proxy;
  fastcgi_temp_path {home}/fastcgi;
  uwsgi_temp_path {home}/uwsgi;
  scgi_temp_path {home}/scgi;
  upstream voltstream {{ server {upstream}; keepalive 4; }}
  server {{
    listen {address}{tls};
    location / {{
      proxy_pass http://voltstream;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header SSL-Client-Cert $ssl_client_escaped_cert;
    }}
  }}
}}
"""


class Nginx(Server):
    """nginx on one loopback port, before one server."""

    name: ClassVar[str] = "nginx"
    variable: ClassVar[str] = "VOLTSTREAM_URL"
    keeps_data: ClassVar[bool] = False

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.upstream = f"{LOOPBACK}:1"  # host:port; set it before a start

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.address}"

    def _launch(self) -> None:
        binary = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
        if binary is None:
            raise ServerUnavailable("nginx: not installed; `python -m deploy.servers install` as root adds it")
        tls = ""
        if self.tls:
            tls = (
                f" ssl; ssl_certificate {self.tls.certificate}; ssl_certificate_key {self.tls.key};"
                f' ssl_client_certificate "{self.tls.ca}"; ssl_verify_client optional'
            )
        file = self.home / "nginx.conf"
        address = f"{LOOPBACK}:{self.port()}"
        file.write_text(
            _CONFIGURATION.format(home=self.home, upstream=self.upstream, address=address, tls=tls), encoding="utf-8"
        )
        self._spawn([binary, "-e", "stderr", "-p", str(self.home), "-c", str(file)], os.environ)

    def _answers(self) -> bool:
        with self._connect() as connection:
            connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            return connection.recv(16).startswith(b"HTTP/")
