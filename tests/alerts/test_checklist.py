"""docs/checklist.md: every line names what proves it, and what it names is there."""

import re

import pytest

from app.settings import ROOT

TOPICS = ["Private data", "Metrics", "Health", "Traces", "Graceful degradation", "Dashboards", "Alerts"]
LINES = re.findall(r"^- \[ \] (.+)$", (ROOT / "docs" / "checklist.md").read_text(), re.MULTILINE)
BY_HAND = "No test covers this: check it by hand."


def proofs(line: str) -> list[str]:
    """Return the files that a line names as its proof, after its last colon."""
    return re.findall(r"`([^`]+)`", line.rpartition(": ")[2])


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.partition(":")[0])
def test_a_line_names_tests_that_exist(line: str) -> None:
    if line.endswith(BY_HAND):
        return
    named = proofs(line)
    assert named, "the line names no proof"
    for path in named:
        assert path.startswith(("tests/", "loadtest/")), path
        assert (ROOT / path).is_file(), f"{path} does not exist"


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.partition(":")[0])
def test_a_named_test_file_holds_tests(line: str) -> None:
    for path in proofs(line):
        if path.startswith("tests/") and (ROOT / path).is_file():
            assert re.search(r"^(async )?def test_", (ROOT / path).read_text(), re.MULTILINE), path


def test_every_topic_has_lines_and_every_line_is_a_box() -> None:
    document = (ROOT / "docs" / "checklist.md").read_text()
    sections = document.split("\n## ")[1:]
    assert [section.partition("\n")[0] for section in sections] == TOPICS
    for section in sections:
        lines = [line for line in section.splitlines()[1:] if line]
        assert lines
        assert all(line.startswith("- [ ] ") for line in lines), section


def test_one_line_at_most_is_left_to_people() -> None:
    assert len([line for line in LINES if line.endswith(BY_HAND)]) <= 1
