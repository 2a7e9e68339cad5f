"""All benchmarks in turn, or those that are named: `python -m loadtest.benchmarks scrape write --quick`."""

import sys
from collections.abc import Callable

from loadtest.benchmarks import hostile, lifecycle, log_lines, overhead, overload, overview, redaction, scrape, write
from loadtest.benchmarks.command import Depth, options

BENCHMARKS: dict[str, Callable[[Depth], int]] = {
    "scrape": scrape.main,
    "write": write.main,
    "overhead": overhead.main,
    "overload": overload.main,
    "hostile": hostile.main,
    "lifecycle": lifecycle.main,
    "redaction": redaction.main,
    "log_lines": log_lines.main,
    "overview": overview.main,
}


def main() -> int:
    """Run them; the largest of their exit statuses."""
    parser = options("python -m loadtest.benchmarks")
    parser.add_argument("benchmark", nargs="*", help=f"{' or '.join(BENCHMARKS)}; all of them where none is named")
    given = parser.parse_args()
    for name in given.benchmark:
        if name not in BENCHMARKS:
            parser.error(f"{name!r} is no benchmark: want {' or '.join(BENCHMARKS)}")
    return max(BENCHMARKS[name](given.depth) for name in given.benchmark or BENCHMARKS)


if __name__ == "__main__":
    sys.exit(main())
