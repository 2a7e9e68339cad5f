"""A client that runs in a pod: `python -c SOURCE URL` asks for URL, each time on a new connection, until it is ended.

Once a second it prints {"sent": 12, "failed": [...]} with the totals so far. It needs nothing but the standard library.
"""

import http.client
import json
import sys
import time
from urllib.parse import urlsplit

INTERVAL, TIMEOUT = 0.05, 10.0


def ask(host: str, port: int, path: str) -> str | None:
    """Return None after a 200, else a description of the failure."""
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT)
    try:
        connection.request("GET", path, headers={"connection": "close"})
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        connection.close()
    return None if answer.status == http.HTTPStatus.OK else f"status {answer.status}"


def main(address: str) -> None:
    """Ask until the process is ended."""
    url = urlsplit(address)
    sent, failed, reported = 0, [], time.monotonic()
    while True:
        failure = ask(url.hostname or "", url.port or 80, url.path)
        sent += 1
        if failure is not None:
            failed.append(failure)
        if time.monotonic() - reported >= 1:
            reported = time.monotonic()
            sys.stdout.write(json.dumps({"sent": sent, "failed": failed}) + "\n")
            sys.stdout.flush()
        time.sleep(INTERVAL)


if __name__ == "__main__":
    main(sys.argv[1])
