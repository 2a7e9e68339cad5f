"""docs/opentelemetry.md has every variable that OpenTelemetry declares."""

import re

from opentelemetry import environment_variables as api_variables
from opentelemetry.instrumentation import environment_variables as instrumentation_variables
from opentelemetry.sdk import environment_variables as sdk_variables

from tests.process.service import ROOT


def test_the_document_has_every_variable_that_opentelemetry_knows() -> None:
    rows = re.findall("`(OTEL_[^`=]+)[`=]", (ROOT / "docs" / "opentelemetry.md").read_text())
    patterns = [re.sub(r"\[(\w+)\]", r"(\1)?", row).replace("*", ".*") for row in rows]
    known = {
        value
        for module in (sdk_variables, api_variables, instrumentation_variables)
        for value in vars(module).values()
        if isinstance(value, str) and re.fullmatch("OTEL_[A-Z_]+", value)
    }
    assert len(known) > 80
    assert sorted(name for name in known if not any(re.fullmatch(one, name) for one in patterns)) == []
