"""gunicorn's final settings, after the command line and the environment are applied.

The command line, GUNICORN_CMD_ARGS and lines of the configuration file behind `.gunicorn(...)` override the return
value of that call. Only the hooks see the result, as the server's `cfg`.
"""

from dataclasses import replace
from typing import Any

from ..options import Options
from ..stop_budget import check_stop_delay
from .logger import GunicornLogger
from .settings import OPTIONS, check_class, merged
from .worker import Worker


def final_options(options: Options, app: str, cfg: Any) -> tuple[Options, list[str]]:
    """Return the options with gunicorn's final settings in them, and the addresses it binds.

    The metrics directory stays the one that PROMETHEUS_MULTIPROC_DIR names since the configuration file was read. Raise
    OptionsError if a value is wrong, a setting would switch the package off, or STOP_DELAY exceeds GRACEFUL_TIMEOUT's
    share for it.
    """
    given = {name: setting.get() for name, setting in cfg.settings.items()}
    check_class("worker_class", given["worker_class"], Worker)
    check_class("logger_class", given["logger_class"], GunicornLogger)
    values = {name: given[name] for name in (*OPTIONS, "bind", "preload_app")}
    values["forwarded_allow_ips"] = ",".join(given["forwarded_allow_ips"])
    final, _ = merged(options, app, values)
    check_stop_delay(final)
    return replace(final, metrics_directory=options.directory), given["bind"]
