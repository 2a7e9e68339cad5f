"""Write the alert rules and their promtool tests for another service."""

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

DIRECTORY = Path(__file__).resolve().parent
NAME = "[a-zA-Z_][a-zA-Z0-9_]*"
# Every form in which the committed files name the service. A word in none of them is an error and not a guess.
FORMS = re.compile(
    r"(?P<runbooks>https://github\.com/baliblissed/backend/blob/main/docs/runbooks)"
    r"|(?P<metric>\bbaliblissed_)"
    r"|(?P<service>(?<=service: )baliblissed\b|(?<=service=\")baliblissed(?=\"))"
    r"|(?P<group>(?<=- name: )baliblissed$|(?<=\.\./)baliblissed(?=\.yml))"
    r"|(?P<job>(?<=job: )baliblissed\b|(?<=job=\")baliblissed(?=\")|(?<=\()baliblissed(?=\))|(?<=of )baliblissed\b"
    r"|(?<= )baliblissed(?= has no))",
    re.MULTILINE,
)
ALERT = re.compile(r"^ +- alert: (\w+)$", re.MULTILINE)


@dataclass(frozen=True)
class Names:
    """The names of one service. `runbooks` is the address of the pages, without a slash at the end."""

    namespace: str = "baliblissed"
    job: str = "baliblissed"
    service: str = "baliblissed"
    runbooks: str = "https://github.com/baliblissed/backend/blob/main/docs/runbooks"

    def apply(self, text: str) -> str:
        """Return `text` with these names in place of the committed ones. Raises ValueError for an unknown form."""
        words = {
            "runbooks": self.runbooks,
            "metric": f"{self.namespace}_",
            "service": self.service,
            "group": self.namespace,
            "job": self.job,
        }
        left = [line for line in text.splitlines() if "baliblissed" in FORMS.sub("", line)]
        if left:
            raise ValueError(f"{left[0].strip()!r} names the service in a form that FORMS does not have")
        return FORMS.sub(lambda found: words[str(found.lastgroup)], text)


def render(names: Names, without: Sequence[str] = ()) -> dict[str, str]:
    """Return each file's name and text, rules first. Raises ValueError if `without` names no alert."""
    # Rules have a blank line between them, and their comments stand above them without one.
    parts = (DIRECTORY / "baliblissed.yml").read_text(encoding="utf-8").rstrip("\n").split("\n\n")
    alerts = {found[1] for part in parts if (found := ALERT.search(part))}
    for name in without:
        if name not in alerts:
            raise ValueError(f"--without {name}: want one of {', '.join(sorted(alerts))}")
    kept = [part for part in parts if not ((found := ALERT.search(part)) and found[1] in without)]
    files = {f"{names.namespace}.yml": names.apply("\n\n".join(kept) + "\n")}
    for path in sorted((DIRECTORY / "tests").glob("*.yml")):
        if path.stem not in without:
            files[f"tests/{path.name}"] = names.apply(path.read_text(encoding="utf-8"))
    return files


def _matching(pattern: str, wanted: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise argparse.ArgumentTypeError(f"{text!r}: want {wanted}")
        return text

    return read


def main() -> int:
    """Write the files; exit status 1 for an alert that does not exist."""
    parser = argparse.ArgumentParser(prog="python -m monitoring.rules", description=__doc__)
    word = _matching(r"[\w.-]+", "letters, digits, underscores, dots and hyphens")
    name = _matching(NAME, "letters, digits and underscores, and no digit first")
    parser.add_argument("--namespace", required=True, type=name, help="first word of the metrics' names")
    parser.add_argument("--job", required=True, type=word, help="the job of Prometheus")
    parser.add_argument("--service", type=word, help="the label `service` of the alerts; by default the job")
    parser.add_argument(
        "--runbooks", default=Names.runbooks, help="address of the runbooks, without a slash at the end"
    )
    parser.add_argument("--without", action="append", default=[], metavar="ALERT", help="an alert to leave out")
    parser.add_argument("--output", required=True, type=Path, help="directory of the rules; their tests go to tests/")
    given = parser.parse_args()
    try:
        files = render(Names(given.namespace, given.job, given.service or given.job, given.runbooks), given.without)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    for file, text in files.items():
        (given.output / file).parent.mkdir(parents=True, exist_ok=True)
        (given.output / file).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
