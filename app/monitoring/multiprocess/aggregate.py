"""One exposition of what all processes counted: from the shared directory where there is one, else from a registry."""

import os
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector


def directory() -> Path | None:
    """The shared metrics directory of this process; None in single-process mode."""
    path = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    return Path(path) if path else None


def exposition(accept: str, single: CollectorRegistry) -> tuple[bytes, str]:
    """The text or OpenMetrics exposition that `accept` asks for, and its content type.

    `single` is what is exposed in single-process mode.
    """
    encode, content_type = choose_encoder(accept)
    shared = directory()
    if shared is None:
        return encode(single), content_type
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(shared))  # type: ignore[no-untyped-call]
    return encode(registry), content_type
