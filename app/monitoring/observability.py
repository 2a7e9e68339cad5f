"""The one object that a service needs: it configures gunicorn, instruments the application, and makes metrics.

Constraint: make it before the first metric. Values go to the shared directory only from then on.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, Unpack

from . import standard_streams
from .functions import Function, plain
from .options import OptionArguments, Options, SpanOptions
from .redaction import configure as configure_redaction
from .refusal import one_line_at_start
from .traces.environment import exit_for_failing_import

if TYPE_CHECKING:
    from prometheus_client import Counter, Gauge, Histogram, Summary
    from prometheus_client.metrics import MetricWrapperBase
    from prometheus_fastapi_instrumentator.metrics import Info
    from starlette.applications import Starlette

    from .health import Readiness
    from .metrics.registry import BoundedRegistry

App = TypeVar("App", bound="Starlette")
Made = TypeVar("Made", bound="MetricWrapperBase")


class Observability:
    """Metrics, logs, traces and process life of one service.

    `options` are the fields of `Options`; the environment gives the others. Raise OptionsError if a value is wrong or
    an option is unknown. In gunicorn's configuration file, and while Uvicorn imports the application, it is SystemExit
    with one line.
    """

    options: Options
    """The options; those that gunicorn's settings and command line replace, follow them."""
    _current: ClassVar["Observability | None"] = None
    _under_gunicorn: ClassVar[bool] = False
    _directory: ClassVar[Path | None] = None
    """Set by the doctor's command, so that `.gunicorn()` leaves the directory of a running service alone."""

    def __init__(self, service: str | None = None, **options: Unpack[OptionArguments]) -> None:
        standard_streams.open_closed()  # before anything that is opened gets their descriptors
        with one_line_at_start():
            self.options = Options.read({"service": service, **options})
        self._functions: list[Function] = []
        Observability._current = self

    @classmethod
    def current(cls) -> "Observability":
        """Return the object that was made last in this process, or make one from the environment."""
        return cls._current or cls()

    @property
    def registry(self) -> "BoundedRegistry":
        """The registry of this process, a `prometheus_client.CollectorRegistry`. Only metrics in it are bounded."""
        # Imported at the first use: prometheus-client decides at a metric's making where its value lives.
        from .metrics.registry import prepare  # noqa: PLC0415

        return prepare(self.options.namespace, self.options.max_series)

    def counter(self, name: str, documentation: str, labels: Sequence[str] = ()) -> "Counter":
        """Make a counter `<namespace>_<name>`. Raise CardinalityError if a label cannot be bounded."""
        from prometheus_client import Counter  # noqa: PLC0415

        return self._make(Counter, name, documentation, labels)

    def gauge(self, name: str, documentation: str, labels: Sequence[str] = (), *, mode: str = "livesum") -> "Gauge":
        """Make a gauge, by default the sum over living processes. Raise CardinalityError if a label cannot be bounded.

        `mode` is prometheus-client's `multiprocess_mode`. With `mostrecent` and `livemostrecent` only `set` works.
        """
        from prometheus_client import Gauge  # noqa: PLC0415

        return self._make(Gauge, name, documentation, labels, multiprocess_mode=mode)

    def histogram(
        self, name: str, documentation: str, labels: Sequence[str] = (), *, buckets: Sequence[float] | None = None
    ) -> "Histogram":
        """Make a histogram; `buckets` are upper bounds, by default those of requests.

        Raise CardinalityError if a label cannot be bounded.
        """
        from prometheus_client import Histogram  # noqa: PLC0415

        from .metrics.catalogue import LATENCY_BUCKETS  # noqa: PLC0415

        return self._make(Histogram, name, documentation, labels, buckets=buckets or LATENCY_BUCKETS)

    def summary(self, name: str, documentation: str, labels: Sequence[str] = ()) -> "Summary":
        """Make a summary: a count and a sum. Raise CardinalityError if a label cannot be bounded."""
        from prometheus_client import Summary  # noqa: PLC0415

        return self._make(Summary, name, documentation, labels)

    def _make(self, kind: type[Made], name: str, documentation: str, labels: Sequence[str], **more: Any) -> Made:
        with one_line_at_start():
            return kind(name, documentation, labels, namespace=self.options.namespace, registry=self.registry, **more)

    def gunicorn(
        self,
        app: str,
        *,
        preload: Sequence[str] = (),
        collectors: Sequence[str] | None = None,
        **settings: Any,
    ) -> dict[str, Any]:
        """Return the settings of gunicorn_conf.py: `globals().update(observability.gunicorn("shop.main:app"))`.

        `app` is `module:app` or `module:create_app()`. `preload` names modules that the master imports once for all
        workers; SIGHUP does not load their code again. `collectors` are `module:function`, which the exporter calls
        every few seconds; by default those of the host. `settings` are gunicorn's own; a hook among them is called
        beside the package's, and one with an option of the same meaning, such as `bind`, replaces the option. Raise
        OptionsError if `app` has another form, or a setting is unknown or would switch the package off: `preload_app`,
        or a `worker_class` or `logger_class` that is not made from the package's. gunicorn refuses the start if its
        configuration file does not use the settings.
        """
        with one_line_at_start():
            return self._gunicorn(app, preload, collectors, settings)

    def _gunicorn(
        self, app: str, preload: Sequence[str], collectors: Sequence[str] | None, settings: dict[str, Any]
    ) -> dict[str, Any]:
        from .server.settings import merged  # noqa: PLC0415

        self.options, rest = merged(self.options, app, settings)
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(Observability._directory or self.options.directory)
        Observability._under_gunicorn = True
        exit_for_failing_import()
        # Afterwards: importing the registry decides by the variable where values live.
        from .doctor.servers import refuse_unless_used  # noqa: PLC0415
        from .server.configuration import settings_of  # noqa: PLC0415

        refuse_unless_used()
        return settings_of(self, app, preload, collectors, rest)

    def start_worker(self) -> "Observability":
        """Set up logs, the tracer provider and the slot of a worker that runs without gunicorn; return this object.

        Call it before the first metric, in the module that `uvicorn --workers N` or `fastapi run --workers N` imports.
        PROMETHEUS_MULTIPROC_DIR must be set. Does nothing under gunicorn, whose hooks have done it, and nothing the
        second time. Raise OptionsError if the directory is not set or another service counts there; exit with one line
        if a variable of OpenTelemetry cannot be honoured or the doctor refuses the surroundings. While a server imports
        the application, each of them is one line that ends all workers and their process manager.
        """
        if not Observability._under_gunicorn:
            with one_line_at_start():
                self._start_worker()
        return self

    def _start_worker(self) -> None:
        exit_for_failing_import()
        directory = self.options.metrics_directory
        if directory is not None:
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
        from .server import standalone  # noqa: PLC0415

        warnings = standalone.examine_surroundings(self.options)
        standalone.make_directory(self.options)  # before the first metric, whose file is made in it
        self.registry  # noqa: B018 -- its limit and its namespace hold from here on
        standalone.start(self.options, warnings)

    def instrument(
        self,
        app: App,
        *,
        excluded_handlers: Sequence[str] = ("^/metrics$",),
        should_group_status_codes: bool = False,
        should_ignore_untemplated: bool = False,
        readiness: "Readiness | None" = None,
        **spans: Unpack[SpanOptions],
    ) -> App:
        """Observe `app`: the request layer, proxy headers, /metrics, and the tasks of a worker beside its lifespan.

        Call it once, at the end of a factory or after a module-level application was made. The http_* metrics leave
        out requests whose handler matches one of the regular expressions `excluded_handlers`; with
        `should_ignore_untemplated`, those that match no route too. With `should_group_status_codes`, `status` is `2xx`
        and the like. `readiness` has the checks of the metrics `ready` and `dependency_up`, which each worker keeps up
        to date. `spans` are hooks and headers for `tracing="instrumentation"`, which needs FastAPI. Raise
        RuntimeError if the application has already started, TypeError if it is neither FastAPI nor Starlette.
        """
        with one_line_at_start():
            exit_for_failing_import()
        from .instrumentation import Counting, instrument  # noqa: PLC0415

        if not Observability._under_gunicorn:  # whose master has set these rules for all its processes
            configure_redaction(self.options.redaction_packs, self.options.redacted_keys)
        counting = Counting(self._functions, excluded_handlers, should_group_status_codes, should_ignore_untemplated)
        return instrument(
            app, self.options, counting, spans, readiness=readiness, under_gunicorn=Observability._under_gunicorn
        )

    def add(self, *functions: "Callable[[Info], Any] | None") -> "Observability":
        """Call each function with prometheus-fastapi-instrumentator's `metrics.Info` for each counted request.

        The requests are those of all applications that this object instruments, before this call and after it. Return
        this object. Raise TypeError if one is a coroutine function.
        """
        self._functions += plain(functions)
        return self
