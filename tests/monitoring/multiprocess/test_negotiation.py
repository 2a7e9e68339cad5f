"""Content negotiation of a scrape: RFC 9110, and the library's answers to Prometheus' own headers."""

from itertools import permutations, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.exposition import choose_encoder, gzip_accepted

from app.monitoring.multiprocess.negotiation import (
    PLAIN,
    Coding,
    Form,
    negotiate,
    negotiate_coding,
    requested_names,
)

OPEN, TEXT = "application/openmetrics-text", "text/plain"
OPEN_1 = Form(OPEN, "1.0.0", "underscores")
TEXT_1 = Form(TEXT, "1.0.0", "underscores")
UNVERSIONED = Form(OPEN, "1.0.0")
SCHEMES = ("", "allow-utf-8", "underscores", "dots", "values")
# What scrape_protocols offers, as Prometheus 2.42 and 3.16 write it. Only the newer formats have an escaping scheme.
PROTOCOLS = {
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited": False,
    f"{OPEN};version=1.0.0": True,
    f"{OPEN};version=0.0.1": False,
    f"{TEXT};version=1.0.0": True,
    f"{TEXT};version=0.0.4": False,
}


def prometheus_headers() -> list[str]:
    """Return the Accept headers of Prometheus 2 and 3 for each choice of scrape_protocols that ends with 0.0.4."""
    found = [
        f"{OPEN};version=1.0.0,{OPEN};version=0.0.1;q=0.75,{TEXT};version=0.0.4;q=0.5,*/*;q=0.1",
        f"{OPEN}; version=0.0.1,{TEXT};version=0.0.4;q=0.5,*/*;q=0.1",
        f"{TEXT};version=0.0.4;q=1,*/*;q=0.1",
    ]
    *others, last = PROTOCOLS
    for size, scheme in product(range(len(others) + 1), SCHEMES):
        for order in permutations(others, size):
            weight, parts = len(PROTOCOLS) + 2, []
            for protocol in (*order, last):
                escaping = f";escaping={scheme}" if scheme and PROTOCOLS[protocol] else ""
                parts.append(f"{protocol}{escaping};q=0.{weight}")
                weight -= 1
            found.append(",".join([*parts, f"*/*;q=0.{weight}"]))
    return found


def test_the_library_gives_the_same_answer_to_the_headers_of_prometheus() -> None:
    headers = prometheus_headers()
    assert len(headers) > 300
    for header in headers:
        assert negotiate(header).content_type == choose_encoder(header)[1], header


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", PLAIN),
        ("*/*", PLAIN),
        ("application/json", PLAIN),
        (OPEN, UNVERSIONED),
        ("application/*", UNVERSIONED),
        ("text/*;q=0.5, application/*", UNVERSIONED),
        (f"{TEXT};q=0, */*;q=0.1", UNVERSIONED),
        (f"{TEXT};q=0", PLAIN),
        ("*/*;q=0", PLAIN),
        (f"{OPEN};version=1.0.0;q=0", PLAIN),
        (f"{OPEN};q=0,*/*", PLAIN),
        (f"{OPEN};version=1.0.0;q=0,*/*;q=1,{TEXT};q=0.1", PLAIN),
        (f"{OPEN};version=1.0.0;q=0.3,{TEXT};version=0.0.4;q=0.5", PLAIN),
        (f"{TEXT};version=0.0.4,{OPEN};version=1.0.0", OPEN_1),
        (f"{TEXT};version=1.0.0,{OPEN};version=1.0.0", TEXT_1),
        (f"{OPEN};version=1.0.0,{TEXT};version=1.0.0", OPEN_1),
        (f"{TEXT};q=0,{TEXT};version=1.0.0;q=0.1", TEXT_1),
        (f"{OPEN};version=2.0.0,{OPEN};version=1.0.0;q=0.1", OPEN_1),
        (f"{OPEN};version=2.0.0", PLAIN),
        (f'{OPEN};version="1.0.0"', OPEN_1),
        ('Application/OpenMetrics-Text ; Version = "1.0.0" ; Q=0.5', OPEN_1),
        (f'{OPEN};x="a,b;q=0\\"";version=1.0.0', OPEN_1),
        (f"{OPEN};version=abc", PLAIN),
        (f"{OPEN};version=1.0.0;escaping=dots", Form(OPEN, "1.0.0", "dots")),
        (f'{TEXT};version=1.0.0;escaping="allow-utf-8"', Form(TEXT, "1.0.0", "allow-utf-8")),
        (f"{OPEN};version=1.0.0;escaping=nonsense", OPEN_1),
        (f"{TEXT};version=0.0.4;escaping=allow-utf-8", PLAIN),
        (f"{OPEN};q=1.5", PLAIN),
        (f"{OPEN};q=nan", PLAIN),
        (f"{OPEN};q=", PLAIN),
        (f"{OPEN};q=0.000,*/*;q=0.001", PLAIN),
        (f'{OPEN};version="1.0.0', PLAIN),
        ('"', PLAIN),
        (";;,,;q=1", PLAIN),
    ],
)
def test_the_format_of_the_highest_weight_is_chosen(accept: str, form: Form) -> None:
    assert negotiate(accept) == form


@pytest.mark.parametrize(
    ("header", "gzip", "identity"),
    [
        ("", False, True),
        ("gzip", True, True),
        ("GZip", True, True),
        ("x-gzip", True, True),
        ("gzip;q=0.001", True, True),
        ("gzip;q=0", False, True),
        ("gzip; q=0.0, *", False, True),
        ("deflate, br, zstd", False, True),
        ("zstd,gzip", True, True),
        ("identity", False, True),
        ("gzip;q=0.5, identity;q=0.8", False, True),
        ("gzip;q=0.5, identity;q=0.5", True, True),
        ("gzip;q=0.5, *", False, True),
        ("*", False, True),
        ("*;q=0", False, True),
        ("identity;q=0", False, True),
        ("identity;q=0, *", True, False),
        ("identity;q=0.5, *", True, True),
        ("identity;q=0, gzip;q=0.1", True, False),
        ("*;q=0, gzip", True, False),
        ("gzip;q=0, identity;q=0", False, True),
        ("gzip;q=2", False, True),
    ],
)
def test_gzip_is_used_where_it_is_preferred(header: str, gzip: bool, identity: bool) -> None:  # noqa: FBT001
    assert negotiate_coding(header) == Coding(gzip=gzip, identity=identity)


@pytest.mark.parametrize("header", ["", "gzip", "zstd,gzip", "identity", "gzip, deflate, br", "deflate"])
def test_without_weights_the_library_gives_the_same_coding(header: str) -> None:
    assert negotiate_coding(header).gzip is gzip_accepted(header)


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(
        st.text(max_size=60),
        st.lists(
            st.sampled_from([
                OPEN, TEXT, "*/*", "gzip", "*", ";", ",", '"', "\\", "=", " ", "q", "q=0", "q=.5", "version=1.0.0",
                "version=", "escaping=dots", "\xff", "\n ", "\0",
            ])
        ).map("".join),
    )
)  # fmt: skip
def test_no_header_raises(header: str) -> None:
    assert negotiate(header).media_type in {OPEN, TEXT}
    negotiate_coding(header)
    requested_names(header.encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize(
    ("query", "names"),
    [
        (b"", None),
        (b"name=x&names[]=y", None),
        (b"name[]=", None),
        (b"name[]=x", {"x"}),
        (b"a=b&name%5B%5D=x_total&name[]=a.b%20c&name[]=x_total", {"x_total", "a.b c"}),
        (b"name[]=%C3%A9&name[]=\xc3\xa8", {"\xe9", "\xe8"}),
        (b"name[]=%ff", {"\ufffd"}),
    ],
)
def test_name_is_read_as_the_library_reads_it(query: bytes, names: set[str] | None) -> None:
    assert requested_names(query) == names
