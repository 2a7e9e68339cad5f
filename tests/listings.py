"""The listings of the documents."""

import re

from app.settings import ROOT


def blocks(document: str, language: str) -> list[str]:
    """Return the blocks of that language in a file of docs/, in their order."""
    text = (ROOT / "docs" / document).read_text()
    return re.findall(rf"^```{language}\n(.+?)^```$", text, re.MULTILINE | re.DOTALL)
