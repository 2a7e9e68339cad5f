"""Observability for FastAPI on several processes: metrics, logs, traces, probes and process life of one service.

    observability = Observability(service="shop", namespace="shop")
    globals().update(observability.gunicorn("shop.main:app"))       # gunicorn_conf.py
    Observability.current().instrument(app)                         # the application

PROMETHEUS_MULTIPROC_DIR is set by `Observability.gunicorn`, before the first metric is made.
"""

from .multiprocess.labels import CardinalityError
from .observability import Observability
from .options import OptionArguments, Options, OptionsError, SpanOptions
from .redaction import NumberForm, RedactionPack

__all__ = [
    "CardinalityError",
    "NumberForm",
    "Observability",
    "OptionArguments",
    "Options",
    "OptionsError",
    "RedactionPack",
    "SpanOptions",
]
