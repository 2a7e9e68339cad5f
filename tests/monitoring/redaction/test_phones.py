"""Phone numbers of 45 countries, formatted by the phonenumbers library, are found.

Without a word before it a national number without a trunk prefix looks like any other; those are listed here.
"""

from collections.abc import Iterator

import phonenumbers
import pytest
from phonenumbers import PhoneNumberFormat as Format
from phonenumbers import PhoneNumberType as Type

from app.monitoring.redaction import configure, redact, redact_text

REGIONS = [
    "ID",
    "AU",
    "SG",
    "MY",
    "IN",
    "CN",
    "HK",
    "TW",
    "JP",
    "KR",
    "TH",
    "PH",
    "VN",
    "GB",
    "IE",
    "DE",
    "AT",
    "CH",
    "FR",
    "NL",
    "BE",
    "LU",
    "ES",
    "PT",
    "IT",
    "SE",
    "NO",
    "DK",
    "FI",
    "PL",
    "CZ",
    "RU",
    "UA",
    "TR",
    "IL",
    "AE",
    "SA",
    "QA",
    "US",
    "CA",
    "MX",
    "BR",
    "AR",
    "NZ",
    "ZA",
]
# Their national numbers have no trunk prefix, or too few digits to be told from a date.
WORD_NEEDED = {
    ("SG", "mobile"),
    ("SG", "fixed"),
    ("HK", "mobile"),
    ("HK", "fixed"),
    ("QA", "mobile"),
    ("QA", "fixed"),
    ("LU", "mobile"),
    ("LU", "fixed"),
    ("ES", "mobile"),
    ("ES", "fixed"),
    ("PT", "mobile"),
    ("PT", "fixed"),
    ("NO", "mobile"),
    ("NO", "fixed"),
    ("DK", "mobile"),
    ("DK", "fixed"),
    ("PL", "mobile"),
    ("PL", "fixed"),
    ("CZ", "mobile"),
    ("CZ", "fixed"),
    ("MX", "mobile"),
    ("MX", "fixed"),
    ("IT", "mobile"),
    ("SE", "fixed"),
}
WORDS = """phone|tel:|Phone:|telp|hp|WA|whatsapp|mobile:|fax|
    电话：|手机号码:|電話|携帯|お電話番号は|전화:|휴대폰|телефон:|тел.
    |Telefon:|Handy|Tel.-Nr.|téléphone :|portable|numéro de téléphone :|teléfono:|telefono|celular:|điện thoại|โทร"""
SURROUNDINGS = ("{}", "call {} now", "x={}&y=z", '["{}"]', "打{}吧", "({})", r"\n{}\n")


def numbers() -> Iterator[tuple[str, str, phonenumbers.PhoneNumber]]:
    for region in REGIONS:
        for name, kind in (("mobile", Type.MOBILE), ("fixed", Type.FIXED_LINE)):
            number = phonenumbers.example_number_for_type(region, kind)
            assert number is not None
            yield region, name, number


def international(number: phonenumbers.PhoneNumber) -> list[str]:
    """Return the forms with the country: as the library writes them, and as people do."""
    plain = phonenumbers.format_number(number, Format.E164)
    spaced = phonenumbers.format_number(number, Format.INTERNATIONAL)
    country, _, rest = spaced.partition(" ")
    found = [plain, spaced, phonenumbers.format_number(number, Format.RFC3966)]
    found += [f"00{plain[1:]}", f"00{spaced[1:]}", f"{country} (0){rest}", f"({country}) {rest}"]
    return found + [
        spaced.replace(" ", sign).replace("-", sign) for sign in (".", "-", "_", "\xa0", "\u2009", "\u2011")
    ]


def digits_left(clean: str) -> int:
    return sum(sign.isdigit() for sign in clean)


def test_an_international_number_is_found_anywhere() -> None:
    missed = {}
    for region, name, number in numbers():
        for written in international(number):
            for around in SURROUNDINGS:
                clean = redact_text(around.format(written))
                if digits_left(clean) or not ("[phone]" in clean or "[redacted]" in clean):
                    missed[region, name, written, around] = clean
    assert missed == {}


def test_a_national_number_is_found_behind_a_word() -> None:
    missed = {}
    for region, name, number in numbers():
        spaced = phonenumbers.format_number(number, Format.NATIONAL)
        plain = "".join(filter(str.isdigit, spaced))
        for word in WORDS.replace("\n", "").split("|"):
            for written in (f"{word.strip()} {spaced} ok", f"{word.strip()} {plain} ok"):
                clean = redact_text(written)
                if digits_left(clean):
                    missed[region, name, written] = clean
    assert missed == {}


def test_a_national_number_with_a_trunk_prefix_is_found_without_a_word() -> None:
    missed = set()
    for region, name, number in numbers():
        written = phonenumbers.format_number(number, Format.NATIONAL)
        if any(digits_left(redact_text(around.format(written))) for around in ("{}", "they said {} today", "({})")):
            missed.add((region, name))
    assert missed == WORD_NEEDED


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("020 7946 0958 020 7946 0959", "[phone] [phone]"),
        ("020 7946 0958, 2 guests", "[phone], 2 guests"),
        ("tel:+65-6123-4567;ext=12", "tel:[redacted];ext=12"),
        ("phone: (021) 8350123 ok", "phone: [redacted] ok"),
        ("我的手机13812345678，谢谢", "我的手机[phone]，谢谢"),
        ("电话：8123 4567", "电话：[phone]"),
        ("dial 0011 62 812 3456 7890 now", "dial [phone] now"),
        ("dial 001 62 812-3456-7890 now", "dial [phone] now"),
    ],
)
def test_what_stands_around_a_phone_number_is_kept(text: str, clean: str) -> None:
    assert redact_text(text) == clean


def test_the_words_of_other_languages_are_names_of_fields_too() -> None:
    for name in ("电话", "手机号码", "電話番号", "전화번호", "телефон", "Telefonnummer", "téléphone", "护照号码"):
        assert redact({name: "8123 4567"}) == {name: "[redacted]"}


def test_without_the_pack_national_forms_and_words_of_other_countries_stay() -> None:
    texts = ("06 12 34 56 78", "Handy 512 345 678", "护照 E12345678")
    try:
        configure(("indonesia",))
        assert [redact_text(text) for text in texts] == list(texts)
        assert redact_text("+44 20 7946 0958") == "[phone]"
    finally:
        configure()
    assert all(redact_text(text) != text for text in texts)


def test_what_was_a_number_labels_no_other() -> None:
    assert redact_text("call +62 812 3456 7890 1234567 rupiah") == "call [phone] 1234567 rupiah"
    assert redact_text("form[phone]: 1234567") == "form[phone]: [phone]"
