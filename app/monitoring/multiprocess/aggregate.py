"""One exposition of what all processes counted: from the shared directory where there is one, else from a registry."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import cast

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from app.monitoring.catalogue import catalogue, is_forbidden_label
from app.monitoring.logging import get_logger
from app.monitoring.multiprocess.directory import metric_files

log = get_logger("aggregate")


def directory() -> Path | None:
    """The shared metrics directory of this process; None in single-process mode."""
    path = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    return Path(path) if path else None


class DirectoryCollector(Collector):
    """prometheus-client's aggregate of a directory, which a file that cannot be read does not break.

    Metrics with a forbidden label are left out: a library may have made them without our registry.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def collect(self) -> Iterable[Metric]:
        """The metrics of all processes."""
        if not self._path.is_dir():
            raise ValueError(f"the metrics directory {self._path} is gone")
        files = [str(file) for file in metric_files(self._path)]
        try:
            metrics = _merge(files)
        except Exception as error:  # noqa: BLE001 -- struct.error, ValueError, FileNotFoundError: whatever a file holds
            readable = [file for file in files if _can_be_read(file)]
            log.warning("metric_files_left_out", count=len(files) - len(readable), error=str(error))
            catalogue().exporter_unreadable_files.inc(len(files) - len(readable))
            metrics = _merge(readable)
        return [metric for metric in metrics if not _has_forbidden_label(metric)]


def _merge(files: Sequence[str]) -> list[Metric]:
    return list(cast("Iterable[Metric]", MultiProcessCollector.merge(files)))  # type: ignore[no-untyped-call]


def _can_be_read(file: str) -> bool:
    try:
        _merge([file])  # not its frame only: a key that is no JSON breaks the merge too
    except Exception:  # noqa: BLE001 -- as above
        return False
    return True


def _has_forbidden_label(metric: Metric) -> bool:
    return bool(metric.samples) and any(map(is_forbidden_label, metric.samples[0].labels))


def exposition(accept: str, single: CollectorRegistry) -> tuple[bytes, str]:
    """The text or OpenMetrics exposition that `accept` asks for, and its content type.

    `single` is what is exposed in single-process mode.
    """
    encode, content_type = choose_encoder(accept)
    shared = directory()
    if shared is None:
        return encode(single), content_type
    registry = CollectorRegistry()
    registry.register(DirectoryCollector(shared))
    return encode(registry), content_type
