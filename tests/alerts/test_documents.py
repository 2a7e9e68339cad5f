"""The PromQL in the documents: accepted by promtool, on metrics that the service has."""

import re
from pathlib import Path

import pytest
import yaml

from app.settings import ROOT
from tests.alerts.programs import run
from tests.alerts.rules import records
from tests.alerts.test_rules import served

DOCUMENTS = [path for path in sorted((ROOT / "docs").rglob("*.md")) if "```promql" in path.read_text(encoding="utf-8")]
OURS = re.compile(r"(?<![\w:])(?:baliblissed|http|process|python)_\w+|\bjob\w*:[\w:]+")


def expressions(path: Path) -> list[str]:
    """Return each expression of a document: it begins at the margin and continues in indented lines."""
    blocks = re.findall(r"^```promql\n(.+?)^```$", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if not line.startswith("#")]
    return re.split(r"\n(?! )", "\n".join(lines))


def test_the_page_of_metrics_and_most_runbooks_have_expressions() -> None:
    assert ROOT / "docs" / "metrics.md" in DOCUMENTS
    assert len(DOCUMENTS) > 5
    assert all(expressions(path) for path in DOCUMENTS)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_promtool_can_read_the_expressions_of_a_document(path: Path, tmp_path: Path) -> None:
    rules = [{"record": f"document:{number}", "expr": text} for number, text in enumerate(expressions(path))]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "document", "rules": rules}]}))
    done = run("promtool", "check", "rules", file)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_the_expressions_of_a_document_are_on_metrics_that_exist(path: Path) -> None:
    named = set(OURS.findall(re.sub(r'"[^"]*"', "", " ".join(expressions(path)))))
    assert named <= served().keys() | records().keys()
