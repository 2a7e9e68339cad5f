"""nginx in front of a service that listens on a Unix socket."""

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
  upstream service {{
    server unix:{socket};
    keepalive 8;
  }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://service;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto https;
    }}
  }}
}}
"""


@contextmanager
def nginx(directory: Path, port: int, socket: Path) -> Iterator[None]:
    """Run nginx on a port, in front of a Unix socket."""
    program, file = require("nginx"), directory / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    file.write_text(CONFIGURATION.format(directory=directory, socket=socket, port=port, user=user))
    process = subprocess.Popen([program, "-e", directory / "nginx.log", "-p", directory, "-c", file])
    try:
        yield
    finally:
        process.terminate()
        process.wait()
