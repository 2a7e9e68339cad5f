"""gunicorn's logger. In a separate module, so that logging works without gunicorn."""

from typing import Any

from gunicorn.glogging import Logger as GunicornBaseLogger

from ..logging import adopt_server_loggers

__all__ = ["GunicornLogger"]


class GunicornLogger(GunicornBaseLogger):  # type: ignore[misc]
    """gunicorn's logger on our handler. The configuration file calls `configure` before gunicorn creates it."""

    def setup(self, cfg: Any) -> None:
        """Set up without gunicorn's own handlers."""
        self.cfg = cfg
        adopt_server_loggers()
        self.loglevel = self.error_log.getEffectiveLevel()
