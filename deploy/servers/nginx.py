"""A private nginx that passes requests on, as docs/security.md says that a reverse proxy does."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Final

from deploy.servers.errors import ServerUnavailable
from deploy.servers.ports import LOOPBACK
from deploy.servers.reverse_proxy import ReverseProxy

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


class Nginx(ReverseProxy):
    """nginx on one loopback port, before one server, or with a configuration of which nginx.conf is read."""

    name: ClassVar[str] = "nginx"

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.upstream = f"{LOOPBACK}:1"  # host:port, for the configuration without another; set it before a start

    def _launch(self) -> None:
        binary = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
        if binary is None:
            raise ServerUnavailable("nginx: not installed; `python -m deploy.servers install` as root adds it")
        self._write(self.configure or self._before_one_server)
        self._spawn([binary, "-e", "stderr", "-p", str(self.home), "-c", str(self.home / "nginx.conf")], os.environ)

    def _before_one_server(self, home: Path, address: str) -> Mapping[str, str]:
        tls = ""
        if self.tls:
            tls = (
                f" ssl; ssl_certificate {self.tls.certificate}; ssl_certificate_key {self.tls.key};"
                f' ssl_client_certificate "{self.tls.ca}"; ssl_verify_client optional'
            )
        return {"nginx.conf": _CONFIGURATION.format(home=home, upstream=self.upstream, address=address, tls=tls)}
