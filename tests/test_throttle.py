"""Warnings that many requests would log."""

import structlog
from structlog.testing import capture_logs

from app.throttle import MAX_KINDS, Throttle


def test_a_kind_is_logged_at_once_and_then_once_an_interval_with_the_number_left_out() -> None:
    throttle = Throttle(structlog.get_logger(), interval=3600)
    with capture_logs() as lines:
        for number in range(5):
            throttle.warning("away", f"TimeoutError: {number}", pause=1)
        throttle.warning("away", "OSError: another kind")
        throttle.warning("refused", "TimeoutError: another event")
        throttle._kinds = {kind: (0.0, left_out) for kind, (_, left_out) in throttle._kinds.items()}
        throttle.warning("away", "TimeoutError: last")
    assert lines == [
        {"event": "away", "error": "TimeoutError: 0", "pause": 1, "log_level": "warning"},
        {"event": "away", "error": "OSError: another kind", "log_level": "warning"},
        {"event": "refused", "error": "TimeoutError: another event", "log_level": "warning"},
        {"event": "away", "error": "TimeoutError: last", "suppressed": 4, "log_level": "warning"},
    ]


def test_kinds_are_bounded() -> None:
    throttle = Throttle(structlog.get_logger())
    with capture_logs() as lines:
        for number in range(3 * MAX_KINDS):
            throttle.warning("away", f"Error{number}")
    assert len(lines) == 3 * MAX_KINDS
    assert len(throttle._kinds) <= MAX_KINDS
