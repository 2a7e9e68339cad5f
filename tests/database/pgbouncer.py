"""PgBouncer in transaction mode, in front of the PostgreSQL of the tests."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from app.embedded_servers import AS_NOBODY
from loadtest.programs import free_port
from tests.alerts.programs import require
from tests.processes import started

CONFIGURATION = """
[databases]
* = host={server} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {size}
server_reset_query =
"""


@contextmanager
def pgbouncer(directory: Path, url: str, size: int) -> Iterator[str]:
    """Run PgBouncer with `size` connections to the server of `url`; yield the URL of the same database through it."""
    program, port, file = require("pgbouncer"), free_port(), directory / "pgbouncer.ini"
    address = urlsplit(url)
    server = parse_qs(address.query)["host"][0]
    file.write_text(CONFIGURATION.format(server=server, port=port, size=size))
    # It does not run as root, either.
    command = [*(AS_NOBODY if os.geteuid() == 0 else ()), program, str(file)]
    with started(command, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if b"process up" in line:
                break
        else:
            raise AssertionError("pgbouncer has ended")
        yield f"postgresql://postgres@127.0.0.1:{port}{address.path}?sslmode=disable"
