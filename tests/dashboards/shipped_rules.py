"""The shipped rules as a test needs them: evaluated each second, with alerts that wait for a second."""

import re
from pathlib import Path

from tests.alerts.rules import RULES

# A day that a test does not have.
YESTERDAY = {"[3h] offset 22h": "[3s] offset 2s"}


def write(directory: Path) -> Path:
    """Write the rules into `directory` and return the file. The windows stay: a window that is half empty has data."""
    text = re.sub(r"^( +interval): \w+$", r"\1: 1s", RULES.read_text(), flags=re.MULTILINE)
    text = re.sub(r"^( +for): \w+$", r"\1: 1s", text, flags=re.MULTILINE)
    for before, after in YESTERDAY.items():
        assert before in text
        text = text.replace(before, after)
    path = directory / "rules.yml"
    path.write_text(text)
    return path
