"""Passports, residence permits and bank accounts are found behind their words, IBAN by their check digits."""

import json
from collections.abc import Callable

import pytest

from app.monitoring.redaction import redact_text
from app.monitoring.redaction.iban import find_ibans

PASSPORTS = {
    "paspor": "C7654321",
    "nomor paspor": "C7654321",
    "passport": "A1234567",
    "Passport No.": "A1234567",
    "护照": "E12345678",
    "护照号码": "E12345678",
    "護照": "312345678",
    "パスポート": "TK1234567",
    "パスポート番号": "TK1234567",
    "旅券番号": "TR1234567",
    "여권": "M12345678",
    "여권번호": "M123A4567",
    "паспорт": "4510 123456",
    "номер паспорта": "45 10 123456",
    "паспорт РФ серии": "4510 № 123456",
    "Pass-Nr.": "C01X00T47",
    "Passnr": "C01X00T47",
    "Ausweisnummer": "L01X00T47",
    "Personalausweis": "L01X00T471",
    "Reisepass": "C01X00T47",
    "Reisepass-Nr.": "C01X00T47",
    "Passnummer": "C01X00T47",
    "passeport": "12AB34567",
    "numéro de passeport": "12AB34567",
    "pasaporte": "AAA123456",
    "KITAS": "2C21JE1234-T",
    "no. KITAS": "2C11JD7891AT",
    "KITAP": "2D41JE0123-U",
    "No. Rek": "1234567890",
    "No Rekening BCA": "123 456 7890",
    "rekening Mandiri": "145-00-1234567-8",
    "rek. BNI": "0123456789",
    "NPWP": "092542943407000",
}
BETWEEN = (
    " ",
    ": ",
    ":",
    "：",
    "=",
    " = ",
    " #",
    " no ",
    " No. ",
    " number ",
    " №",
    " № ",
    " nomor: ",
    " n° ",
    "\xa0",
    ' "',
)
WRITTEN: dict[str, Callable[[str], str]] = {
    "plain": str,
    "sentence": "We saw {} today".format,
    "repr": repr,
    "ascii": ascii,
    "JSON": lambda text: json.dumps({"note": text}),
    "JSON in JSON": lambda text: json.dumps(json.dumps({"note": text})),
    "dict": lambda text: str({"note": (text, 1)}),
    "bytes": lambda text: repr(text.encode()),
}


def test_a_document_is_found_behind_its_word_with_any_separator() -> None:
    missed = {}
    for word, number in PASSPORTS.items():
        for sign in BETWEEN:
            for name, write in WRITTEN.items():
                clean = redact_text(write(f"{word}{sign}{number}"))
                if number[-4:] in clean or number[:4] in clean:
                    missed[word, sign, name] = clean
    assert missed == {}


@pytest.mark.parametrize("word", [word for word in PASSPORTS if "." not in word and "rek" not in word.lower()])
def test_a_document_is_found_under_its_name(word: str) -> None:
    number = PASSPORTS[word]
    for text in (json.dumps({word: number}), repr({word: number}), json.dumps({word: number}, ensure_ascii=False)):
        assert number not in redact_text(text)


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("paspor C7654321, berlaku 2030", "paspor [redacted], berlaku 2030"),
        ("护照号码：E12345678。谢谢", "护照号码：[redacted]。谢谢"),
        ("我的护照号码是E12345678已过期", "我的护照号码是[redacted]已过期"),
        ("护照E12345678已过期", "护照[redacted]已过期"),
        ("身份证110101199003071234是他的", "身份证[redacted]是他的"),
        ("パスポート番号はTK1234567です", "パスポート番号は[redacted]です"),
        ("여권번호는 M12345678입니다", "여권번호는 [redacted]입니다"),
        ("паспорт серии 4510 № 123456 выдан", "паспорт серии [redacted] выдан"),
        ("护照2030年到期", "护照2030年到期"),
        ("BCA 1234567890 a.n. Wayan Sari, lunas", "BCA [account], lunas"),
        ("BCA 123-456-7890 (atas nama Ni Luh Putu)", "BCA [account])"),
        ("transfer DE89 3704 0044 0532 0130 00 today", "transfer [iban] today"),
        ("GB82WEST12345698765432.", "[iban]."),
        ("[iban]: 7", "[iban]: 7"),
    ],
)
def test_what_stands_around_a_document_is_kept(text: str, clean: str) -> None:
    assert redact_text(text) == clean


@pytest.mark.parametrize(
    "number",
    [
        "AD1200012030200359100100",
        "AE070331234567890123456",
        "AT611904300234573201",
        "BE68539007547034",
        "CH9300762011623852957",
        "CZ6508000000192000145399",
        "DE89370400440532013000",
        "DK5000400440116243",
        "ES9121000418450200051332",
        "FI2112345600000785",
        "FR1420041010050500013M02606",
        "GB29NWBK60161331926819",
        "IE29AIBK93115212345678",
        "IT60X0542811101000000123456",
        "LU280019400644750000",
        "MT84MALT011000012345MTLCAST001S",
        "NL91ABNA0417164300",
        "NO9386011117947",
        "PL61109010140000071219812874",
        "PT50000201231234567890154",
        "QA58DOHB00001234567890ABCDEFG",
        "SA0380000000608010167519",
        "SE4550000000058398257466",
        "TR330006100519786457841326",
        "UA213223130000026007233566001",
    ],
)
def test_an_iban_is_one_of_its_country_with_its_check_digits(number: str) -> None:
    grouped = " ".join(number[start : start + 4] for start in range(0, len(number), 4))
    for written in (number, grouped, grouped.replace(" ", "-")):
        assert list(find_ibans(written)) == [(0, len(written), "[iban]")]
    for other in (f"{number[:-1]}{(int(number[-1], 36) + 1) % 10}", f"{number}0", f"x{number}", number[:-1]):
        assert list(find_ibans(other)) == []
