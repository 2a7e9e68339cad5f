"""The time that a service has to stop, and its parts. One place for all of them, so that they add up.

    GRACEFUL_TIMEOUT                       from the signal to the end of the master
      workers                    0.92      then they are killed
        drain                    0.70      requests in flight; its last 0.3 announces each close
          STOP_DELAY             at most 0.21: not ready, and more requests are accepted
        spans                    0.12, at most 3 s
        the rest                           the application's own shutdown
      killed workers   at most 0.04      until they have ended
      exporter                   the rest, at least 1 s: below 25 s the end may come up to 1 s later

KILL_TIMEOUT is the time until the platform kills the service. It must be longer.
"""

from dataclasses import dataclass
from typing import Final

from .options import Options, OptionsError

DRAIN_SHARE: Final = 0.7
# Share of the drain, at its end, in which each response announces the close. STOP_DELAY is a part of it.
CLOSING_SHARE: Final = 0.3
SPAN_SHARE: Final = 0.12
MAX_SPAN_SECONDS: Final = 3.0
WORKER_SHARE: Final = 0.92
KILLED_SHARE: Final = 0.04
MIN_EXPORTER_SECONDS: Final = 1.0


@dataclass(frozen=True)
class StopBudget:
    """The parts of `graceful_timeout`, in seconds."""

    graceful_timeout: float

    @property
    def drain(self) -> float:
        """Seconds for requests in flight."""
        return self.graceful_timeout * DRAIN_SHARE

    @property
    def max_stop_delay(self) -> float:
        """The longest STOP_DELAY."""
        return self.drain * CLOSING_SHARE

    @property
    def spans(self) -> float:
        """Seconds for the last export."""
        return min(MAX_SPAN_SECONDS, self.graceful_timeout * SPAN_SHARE)

    @property
    def workers(self) -> float:
        """Seconds after which workers that still run are killed."""
        return self.graceful_timeout * WORKER_SHARE

    @property
    def killed(self) -> float:
        """Seconds that the master waits for the end of killed workers, so that it can count them."""
        return self.graceful_timeout * KILLED_SHARE

    @property
    def end(self) -> float:
        """Seconds until the master has ended at the latest."""
        elapsed = self.workers + self.killed
        return elapsed + self.exporter(elapsed)

    def exporter(self, elapsed: float) -> float:
        """Seconds for the exporter's end, when `elapsed` have passed since the signal."""
        return max(MIN_EXPORTER_SECONDS, self.graceful_timeout - elapsed)


def check_stop_delay(options: Options) -> None:
    """Raise OptionsError if STOP_DELAY exceeds its share. The default is shortened instead."""
    most = StopBudget(options.graceful_timeout).max_stop_delay
    if options.stop_delay > most and options.stop_delay != Options.stop_delay:
        raise OptionsError(
            f"STOP_DELAY={options.stop_delay:g}: want at most {most:.3g}, "
            f"{DRAIN_SHARE * CLOSING_SHARE:.2g} of GRACEFUL_TIMEOUT={options.graceful_timeout}"
        )
