"""docs/doctor.md has the findings that the code makes, and the service has none."""

import ast
import re
from pathlib import Path

from app.monitoring import doctor
from app.settings import ROOT
from tests.monitoring.doctor.conftest import Project


def in_code() -> set[tuple[str, str]]:
    """Return code and severity of each Finding that the package makes."""
    package = Path(str(doctor.__file__)).parent
    calls = [
        node
        for file in package.glob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Finding" and node.args
    ]
    return {tuple(ast.literal_eval(argument) for argument in call.args[:2]) for call in calls}


def test_the_table_of_findings_is_complete() -> None:
    document = (ROOT / "docs" / "doctor.md").read_text()
    rows = re.findall(r"^\| `([a-z-]+)` \| (error|warning) \|", document, re.MULTILINE)
    assert len(rows) == len(set(rows))
    assert set(rows) == in_code()


def test_the_functions_in_the_document_are_public() -> None:
    document = (ROOT / "docs" / "doctor.md").read_text()
    named = set(re.findall(r"doctor\.(\w+)\(", document))
    assert named == {name for name in doctor.__all__ if name[0].islower()}


def test_the_service_itself_passes(project: Project) -> None:
    outcome = project.run("doctor", "app.main:create_app()")
    assert outcome.lines == ["0 findings"], outcome.errors
