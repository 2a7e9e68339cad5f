"""Records of loguru as our log lines, in separate processes."""

import json
import subprocess
import sys
from typing import Any

START = """
from loguru import logger
from app.monitoring.logging import adopt_loguru, configure
configure(renderer="json", level="INFO,quiet=ERROR", service="s", version="1", environment="test")
adopt_loguru()
adopt_loguru()
"""
SECRET = "wayan@example.com"


def run(code: str) -> list[dict[str, Any]]:
    done = subprocess.run([sys.executable, "-c", START + code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_record_keeps_level_name_and_fields_and_is_redacted() -> None:
    (line,) = run(f'logger.bind(room=7, password="x").warning("Mail of {{}} 50%", "{SECRET}")')
    assert line["event"] == "Mail of [email] 50%"
    assert (line["level"], line["logger"], line["room"], line["service"]) == ("warning", "__main__", 7, "s")
    assert line["password"] == "[redacted]"


def test_an_exception_is_in_the_line_and_is_redacted() -> None:
    (line,) = run(f"""
try:
    raise ValueError("{SECRET}")
except ValueError:
    logger.exception("Booking failed")
""")
    assert (line["event"], line["level"]) == ("Booking failed", "error")
    assert "ValueError: [email]" in line["exception"]


def test_own_levels_count_as_the_standard_level_below() -> None:
    (line,) = run('logger.success("done"); logger.trace("x"); logger.debug("y")')
    assert (line["event"], line["level"], line["level_name"]) == ("done", "info", "SUCCESS")


def test_log_level_holds_for_loggers_by_name() -> None:
    lines = run("""
quiet = logger.patch(lambda record: record.update(name="quiet.one"))
quiet.warning("unwanted")
quiet.error("wanted")
""")
    assert [(line["event"], line["logger"]) for line in lines] == [("wanted", "quiet.one")]


def test_a_field_with_a_reserved_name_is_kept_under_another() -> None:
    (line,) = run('logger.bind(event="theirs", self=1, exc_info=2, timestamp="t").info("ours")')
    assert (line["event"], line["event_"], line["self_"], line["exc_info_"]) == ("ours", "theirs", 1, 2)
    assert line["timestamp"] != "t"


def test_a_record_that_cannot_be_read_is_one_line_without_its_text() -> None:
    (line,) = run(f'logger.patch(lambda record: record.update(extra=None)).info("{SECRET}")')
    assert (line["event"], line["error"]) == ("loguru_record_not_readable", "AttributeError")


def test_packs_and_added_names_hold_for_loguru_and_for_what_nobody_caught() -> None:
    rules = 'service="s", version="1", environment="test", redaction_packs=(), redacted_keys=("loyalty_number",)'
    lines = run(f"""
import threading
configure(renderer="json", level="INFO", {rules})
logger.bind(loyalty_number=7, sandi="kopi").warning("loyalty_number=gold77 0812-3456-7890")
def fail():
    raise ValueError("loyalty_number=gold77 0812-3456-7890")
thread = threading.Thread(target=fail)
thread.start()
thread.join()
""")
    assert (lines[0]["loyalty_number"], lines[0]["sandi"]) == ("[redacted]", "kopi")
    assert lines[0]["event"] == "loyalty_number=[redacted] 0812-3456-7890"
    assert "ValueError: loyalty_number=[redacted] 0812-3456-7890" in lines[1]["exception"]


def test_an_error_reaches_sentry_and_the_log_once_each() -> None:
    lines = run("""
import sentry_sdk
sent = []
sentry_sdk.init("http://key@127.0.0.1:9/1", before_send=lambda event, hint: sent.append(event))
adopt_loguru()
adopt_loguru()
logger.error("no room")
logger.info(str([event["level"] for event in sent]))
""")
    # Afterwards its transport says that nobody listens at the address.
    assert [line["event"] for line in lines[:2]] == ["no room", "['error']"]
