"""prometheus-client's own exporter of a multiprocess directory, as its documentation has it; for comparison only.

It sends its port to its parent process, and ends with it.
"""

import os
import sys

from prometheus_client import CollectorRegistry, start_http_server

from app.monitoring.companion import announce, wait_for_owner
from loadtest.benchmarks.expositions import LibraryCollector


def main() -> int:
    """Serve the directory of PROMETHEUS_MULTIPROC_DIR."""
    registry = CollectorRegistry()
    registry.register(LibraryCollector(os.environ["PROMETHEUS_MULTIPROC_DIR"]))
    server, _ = start_http_server(0, "127.0.0.1", registry)
    announce(str(server.server_port))
    wait_for_owner()
    return 0


if __name__ == "__main__":
    sys.exit(main())
