"""The chart of the overhead benchmark: three bars a case, CPU microseconds a request. Plain SVG, no library."""

from html import escape

from loadtest.benchmarks.command import Figures

LEFT, TOP, BAR, GAP, WIDTH = 200, 64, 16, 22, 760
SERIES = (("bare_us", "bare FastAPI", "#9aa0a6"), ("full_us", "ours", "#0b6e4f"), ("naive_us", "naive", "#b3541e"))


def chart(figures: Figures) -> str:
    """Return the SVG."""
    cases = figures["cases"]
    scale = (WIDTH - LEFT - 120) / max(case["naive_us"] for case in cases)
    height = TOP + len(cases) * (len(SERIES) * BAR + GAP) + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif">',
        "<style>text { font-size: 12px } .title { font-size: 16px }</style>",
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        '<text x="16" y="26" class="title">CPU microseconds a request, metrics, access log and traces on</text>',
    ]
    for number, (_, name, colour) in enumerate(SERIES):
        parts.append(f'<rect x="{16 + number * 130}" y="38" width="12" height="12" fill="{colour}"/>')
        parts.append(f'<text x="{34 + number * 130}" y="49">{escape(name)}</text>')
    top = TOP
    for case in cases:
        parts.append(f'<text x="16" y="{top + BAR * 2}">{case["routes"]} routes, {case["sampled"]:.0%} sampled</text>')
        for name, _, colour in SERIES:
            width = case[name] * scale
            ratio = f" ({case[name] / case['bare_us']:.2f}x)" if name != "bare_us" else ""
            parts.append(f'<rect x="{LEFT}" y="{top}" width="{width:.1f}" height="{BAR - 2}" fill="{colour}"/>')
            parts.append(f'<text x="{LEFT + width + 6:.1f}" y="{top + BAR - 4}">{case[name]:.0f}{ratio}</text>')
            top += BAR
        top += GAP
    return "\n".join([*parts, "</svg>"]) + "\n"
