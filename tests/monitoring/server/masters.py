"""gunicorn's master as hooks see it, with settings as a configuration file has them."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from gunicorn.config import Config


def master_with(settings: Mapping[str, Any]) -> SimpleNamespace:
    """Return a server without workers and with gunicorn's own configuration."""
    configuration = Config()
    for name, value in settings.items():
        configuration.set(name, value)
    return SimpleNamespace(cfg=configuration, WORKERS={})
