"""nginx in front of a service."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.alerts.programs import require

CONFIGURATION = """
daemon off;
{user}
pid {directory}/nginx.pid;
error_log {directory}/nginx.log;
events {{}}
http {{
  access_log off;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
{servers}
}}
"""


# Knows its clients' addresses, and passes nothing on that they say of them.
ON_A_SOCKET = """
  upstream service {
    server unix:SOCKET;
    keepalive 8;
  }
  server {
    listen 127.0.0.1:PORT;
    location / {
      proxy_pass http://service;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto https;
    }
  }
"""


@contextmanager
def nginx(directory: Path, port: int, socket: Path) -> Iterator[None]:
    """Run nginx on a port, in front of a Unix socket."""
    with proxying(directory, ON_A_SOCKET.replace("SOCKET", str(socket)).replace("PORT", str(port))):
        yield


@contextmanager
def proxying(directory: Path, servers: str) -> Iterator[None]:
    """Run nginx with the `upstream` and `server` blocks of `servers`."""
    program, file = require("nginx"), directory / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    file.write_text(CONFIGURATION.format(directory=directory, servers=servers, user=user))
    process = subprocess.Popen([program, "-e", directory / "nginx.log", "-p", directory, "-c", file])
    try:
        yield
    finally:
        process.terminate()
        process.wait()
