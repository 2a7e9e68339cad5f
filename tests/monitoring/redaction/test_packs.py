"""Redaction by packs and additional names; a new configuration replaces the previous one completely."""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from app.monitoring.redaction import (
    REDACTED,
    NumberForm,
    PackError,
    RedactionPack,
    configure,
    redact,
    redact_event,
    redact_text,
)
from app.monitoring.redaction.configuration import checked_packs, portable
from app.monitoring.redaction.indonesia import INDONESIA
from app.monitoring.traces.span_redaction import _attributes, redact_query

NIK, NPWP, CARD = "5171012304900003", "01.234.567.8-901.000", "4111111111111111"


def is_cpf(digits: str) -> bool:
    """Return True if the eleven digits of a CPF, the Brazilian taxpayer number, have valid check digits."""
    first = sum(int(digit) * (10 - place) for place, digit in enumerate(digits[:9])) * 10 % 11 % 10
    second = sum(int(digit) * (11 - place) for place, digit in enumerate(digits[:10])) * 10 % 11 % 10
    return digits[9:] == f"{first}{second}"


BRAZIL = RedactionPack(
    name="brazil",
    number_keys=("cpf", "cadastro de pessoas"),
    word_keys=("senha",),
    phrase_keys=("nome completo",),
    whole_keys=("zap",),
    forms=(
        NumberForm(
            r"\d{3}(?:[.]?\d{3}){2}-?\d{2}(?!\d)", "[cpf]", is_cpf, groups=((11,), (3, 3, 3, 2)), labels=("cpf",)
        ),
    ),
    phone_labels=("zap",),
    glued_labels=("zap",),
)


@pytest.fixture(autouse=True)
def _rules_restored() -> Iterator[None]:
    configure()
    yield
    configure()


def test_the_pack_of_indonesia_is_on_by_default() -> None:
    assert redact_text(f"{NIK} {NPWP} 0812-3456-7890 alamat=Ubud") == "[nik] [npwp] [phone] alamat=[redacted]"


@pytest.mark.parametrize(
    "text",
    [
        NIK,
        f"NIK {NIK}",
        NPWP,
        "0812-3456-7890",
        "(0361) 123456",
        "hp 123-4567",
        "wa0812345678",
        "sandi=kopi",
        "no hp: 0812-3456-7890",
        "tanggal lahir: 23 April",
        '{"alamat": "Jl. Raya 8"}',
    ],
)
def test_without_the_pack_indonesian_forms_and_names_stay(text: str) -> None:
    configure(())
    assert redact_text(text) == text
    assert redact({"note": text}) == {"note": text}
    configure(("indonesia",))
    assert redact_text(text) != text


def test_without_the_pack_indonesian_fields_and_numbers_stay() -> None:
    fields = {"nik": 12, "telepon": "kantor", "nama_lengkap": "Wayan", "hp": "biru", "ref": int(NIK)}
    configure(())
    assert redact_event(fields) == redact(fields) == fields
    configure(("indonesia",))
    assert redact(fields) == {**dict.fromkeys(fields, REDACTED), "ref": "[nik]"}


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("wayan@example.com", "[email]"),
        ("+62 812-3456-7890", "[phone]"),
        ("+49 30 1234567", "[phone]"),
        ("tel 123-4567", "tel [phone]"),
        (CARD, "[card]"),
        ("078-05-1120", "[ssn]"),
        ("Authorization: Bearer abcdef123456", "Authorization: Bearer [redacted]"),
        ("phone=12 34", "phone=[redacted]"),
        ("iban=DE89 3704", "iban=[redacted]"),
        ("password=kopi", "password=[redacted]"),
        ("from 198.51.100.77", "from 198.51.100.0/24"),
    ],
)
def test_without_any_pack_international_forms_and_names_go(text: str, clean: str) -> None:
    configure(())
    assert redact_text(text) == clean


@pytest.mark.parametrize("name", ["loyalty_number", "loyaltyNumber", "LOYALTY-NUMBER", "guest.loyalty_number"])
def test_an_added_name_is_redacted_in_structures_at_any_depth(name: str) -> None:
    configure(added_keys=("loyalty_number",))
    assert redact_event({"event": "x", name: 77}) == {"event": "x", name: REDACTED}
    assert redact({"a": [{"b": ({name: "gold"},)}]}) == {"a": [{"b": [{name: REDACTED}]}]}
    assert redact([(name, "gold")]) == [[name, REDACTED]]
    assert redact({"name": name, "value": "gold"}) == {"name": name, "value": REDACTED}


@pytest.mark.parametrize(
    "text",
    [
        '{"guest": {"loyalty_number": "gold77"}}',
        json.dumps({"body": json.dumps({"loyaltyNumber": "gold77"})}),
        "loyalty_number=gold77",
        "loyalty number: gold77",
        "--loyalty-number gold77",
        "{'loyalty_number': 'gold77'}",
        "GET /stays?page=2&loyalty_number=gold77",
        "guest%5Bloyalty_number%5D=gold77",
        "ValueError: loyalty_number='gold77' is unknown",
    ],
)
def test_an_added_name_is_redacted_in_running_text(text: str) -> None:
    assert "gold77" in redact_text(text)
    configure(added_keys=("loyalty_number",))
    assert "gold77" not in redact_text(text)
    assert "gold77" not in str(redact_event({"event": text, "exception": text, "notes": [text]}))


def test_an_added_name_is_redacted_in_spans() -> None:
    attributes: dict[str, Any] = {
        "app.loyalty_number": "gold77",
        "app.loyalty_numbers": 3,
        "loyalty_number": 77,
        "url.full": "https://bali.test/stays?loyalty_number=gold77&page=2",
        "url.query": "loyalty_number=gold77",
        "http.request.header.loyalty-number": ("gold77",),
        "db.query.text": "loyalty_number = 'gold77'",
    }
    assert str(_attributes(attributes)).count("gold77") == 5
    configure(added_keys=("loyalty_number",))
    found = _attributes(attributes)
    assert "gold77" not in str(found)
    assert (found["loyalty_number"], found["app.loyalty_numbers"]) == (REDACTED, 3)
    assert redact_query("page=2&loyalty_number=gold77") == "page=2&loyalty_number=[redacted]"


@pytest.mark.parametrize("name", ["client_ip", "user_id", "server.address", "network.peer.address", "url.full"])
def test_an_added_name_goes_before_the_rule_that_the_name_has_otherwise(name: str) -> None:
    configure(added_keys=(name,))
    assert redact_event({name: "198.51.100.7"}) == {name: REDACTED}
    assert _attributes({name: "198.51.100.7"}) == {name: REDACTED}


def test_nothing_of_one_configuration_is_left_in_the_next() -> None:
    texts = (NIK, NPWP, "0812-3456-7890", "sandi=kopi", "loyalty_number=gold77", CARD)
    event = {"nik": "kantor", "loyalty_number": "gold77", "note": "sandi=kopi"}

    def seen() -> tuple[Any, ...]:
        assert redact_event(event) == redact(event)
        return (
            [redact_text(text) for text in texts],
            redact_event(event),
            redact(event),
            [_attributes({"note": text}) for text in texts],
            _attributes(event),
        )

    rules: list[tuple[tuple[str, ...], tuple[str, ...]]] = [
        ((), ()),
        (("indonesia",), ()),
        ((), ("loyalty_number",)),
        (("indonesia",), ("loyalty_number",)),
    ]
    first = []
    for packs, names in rules:
        configure(packs, names)
        first.append(seen())
    assert len({str(one) for one in first}) == len(rules)
    for number in (2, 0, 3, 1, 0):
        configure(*rules[number])
        assert seen() == first[number]


def test_a_pack_of_the_services_own_is_redacted_beside_the_shipped_one() -> None:
    text = "529.982.247-25 52998224725 zap1234567 cpf 111.222.333-44"
    assert "[cpf]" not in redact_text(text)
    configure(("indonesia", BRAZIL))
    assert redact_text("529.982.247-25 and 52998224725") == "[cpf] and [cpf]"
    assert redact_text("529.982.247-26 and 52998224726") == "529.982.247-26 and 52998224726"
    assert redact_text("cpf 529.982.247-26") == "cpf [cpf]"
    assert redact_text("zap 1234567") == "zap [phone]"
    assert redact_text(f"senha=x nome completo: Ana Lima; {NIK}") == "senha=[redacted] nome completo: [redacted]; [nik]"
    assert redact({"cpf": 1, "Cadastro de Pessoas": 2, "zap": 3, "map_zap": 4}) == {
        "cpf": REDACTED,
        "Cadastro de Pessoas": REDACTED,
        "zap": REDACTED,
        "map_zap": 4,
    }


def test_what_a_pack_has_replaced_stays_as_it_is() -> None:
    configure((BRAZIL,))
    for text in ("529.982.247-25", "cpf: 529.982.247-25", "{'cpf': '529.982.247-25'}"):
        once = redact_text(text)
        assert redact_text(once) == once != text
    assert redact_text("[cpf]: 3") == "[cpf]: 3"


def test_digits_behind_letters_make_an_id_of_a_number_unless_its_punctuation_tells_what_it_is() -> None:
    assert redact_text(f"{NIK}x7 {NPWP}x7") == f"{NIK}x7 [npwp]x7"


def test_a_pack_is_the_same_on_the_other_side_of_json() -> None:
    configure(json.loads(json.dumps(portable(("indonesia", BRAZIL, replace(INDONESIA, name="other"))))))
    assert redact_text(f"529.982.247-25 {NIK} {NPWP} 0812-3456-7890") == "[cpf] [nik] [npwp] [phone]"


def raises(digits: str) -> bool:
    raise ValueError(digits)


def test_a_check_that_raises_hides_the_number() -> None:
    configure((RedactionPack("own", forms=(NumberForm(r"\d{9}(?!\d)", "[own]", raises),)),))
    assert redact_text("no 123454321") == "no [own]"


class _Named:
    def is_even(self, digits: str) -> bool:
        return int(digits) % 2 == 0


@pytest.mark.parametrize("check", [lambda _digits: True, _Named().is_even, str.isdigit])
def test_a_check_that_another_process_cannot_import_is_refused(check: Any) -> None:
    pack = RedactionPack("own", forms=(NumberForm(r"\d{9}(?!\d)", "[own]", check),))
    with pytest.raises(PackError, match=r"\[own\]: check=.*: want a function of a module that can be imported"):
        checked_packs((pack,))


def test_a_check_of_the_configuration_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(is_cpf, "__module__", "__config__")
    monkeypatch.setitem(sys.modules, "__config__", SimpleNamespace(is_cpf=is_cpf))
    with pytest.raises(PackError, match="can be imported"):
        checked_packs((BRAZIL,))


@pytest.mark.parametrize("reference", ["no_such_module:check", "json:no_such_check", "json"])
def test_a_check_that_is_not_there_is_named(reference: str) -> None:
    (data,) = portable((BRAZIL,))
    assert isinstance(data, dict)
    data["forms"][0]["check"] = reference
    with pytest.raises(PackError, match=f"'{reference}': .*want module:function"):
        configure((data,))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NumberForm("(", "[own]"), "want a regular expression"),
        (lambda: NumberForm(r"\d", "own"), r"'own': want a replacement such as '\[nik\]'"),
        (lambda: RedactionPack("Own"), "'Own': want a pack's name"),
        (lambda: RedactionPack("own", number_keys="cpf"), "own.number_keys='cpf': want a tuple"),  # type: ignore[arg-type]
        (lambda: RedactionPack("own", phones=r"(\d)\1"), r"own.phones: want groups without numbers"),
    ],
)
def test_a_pack_that_cannot_work_is_refused_when_it_is_made(make: Any, message: str) -> None:
    with pytest.raises(PackError, match=message):
        make()
