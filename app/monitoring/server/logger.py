"""gunicorn's logger. A module of its own, so that logging works where gunicorn is not installed."""

from typing import Any

from gunicorn.glogging import Logger as GunicornBaseLogger

from ..logging import adopt_server_loggers


class GunicornLogger(GunicornBaseLogger):  # type: ignore[misc]
    """gunicorn's logger on our handler. The configuration file has called `configure` before gunicorn makes it."""

    def setup(self, cfg: Any) -> None:
        """Leave gunicorn's own handlers out."""
        self.cfg = cfg
        adopt_server_loggers()
        self.loglevel = self.error_log.getEffectiveLevel()
