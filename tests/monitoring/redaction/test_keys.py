"""Redaction by field name, in every spelling."""

from itertools import product
from typing import Any

import pytest

from app.monitoring.redaction import REDACTED, is_secret_key, redact, redact_event, redact_text
from app.monitoring.redaction.keys import Extent, Kind, field

SECRET = """
    authorization Authorization HTTP_AUTHORIZATION proxy-authorization Proxy-Authorization cookie cookies
    Set-Cookie HTTP_COOKIE http.request.header.authorization http.request.header.x-api-key x-api-key X-API-Key
    xApiKey api_key apiKey ApiKey API_KEY api-key apikey APIKEY APIKey apiKeys password PASSWORD passwd pwd
    db_password dbPassword newPassword password2 password_hash passwordConfirmation userpassword user_pass pass
    passphrase secret client_secret clientSecret webhook_secret secrets token tokens access_token accessToken
    accesstoken refresh-token id_token idToken csrfToken X-Auth-Token authtoken jwt bearer_token aws_session_token
    X-Amz-Security-Token session sessions session_id sessionId session-id sessionToken JSESSIONID PHPSESSID
    connect.sid sid auth basic_auth private_key privateKey PRIVATE-KEY secret_key encryptionKey accessKey
    signature credentials email Email e-mail guest_email guestEmails emailAddress user[email] mail phone
    phoneNumber phone_number telephone tel contact_phone mobile mobile_no no_hp nomor_telepon whatsapp fax address
    addresses address1 address_line_2 street streetAddress street_address home_address billing_address alamat
    Alamat alamat_lengkap nik NIK no_ktp npwp ssn SSN socialSecurityNumber passport PassportNo passport_number
    paspor card cardNumber card_number credit-card ccNumber kartu_kredit cvv cvv2 cvvCode card_cvc securityCode
    pin otp otp_code iban rekening account_number date_of_birth dateOfBirth dob birth_date birthdate tanggalLahir
    first_name fullName surname mac_address gen_ai.input.messages prompt
"""
PLAIN = """
    tokens_used token_count token_kind token_type tokenizer token_bucket author authored_by authority
    authenticated auth_method session_pool_size session_ttl sessions_total obsession address_family addressee
    server.address server_address bind_address net.host.ip pod_ip email_sent emailed mailbox phone_verified
    telemetry microphone secretary secretariat monkey keyboard key keys primary_key cache_key sort_key foreign_key
    passenger passengers passing compass bypass boarding_pass day_pass pass_rate password_policy
    password_min_length cookie_max_age cookies_enabled card_type cardinality wildcard scorecard dashboard_card
    discard map_pin pinned pins birthplace is_mobile street_food motel hotel credential_type signature_algorithm
    name place description db.statement http.route http.url url.path status duration_ms service.name
    exception.type country city refresh_token_expires_in
"""


@pytest.mark.parametrize("key", SECRET.split())
def test_a_private_name_hides_whatever_it_holds(key: str) -> None:
    assert is_secret_key(key)
    for value in ("plain words", 7_000_000_000, None, ["a"], {"b": 1}, b"x", object()):
        assert redact({key: value}) == {key: REDACTED}
        assert redact({"deep": [{key: value}]}) == {"deep": [{key: REDACTED}]}
        assert redact_event({key: value}) == {key: REDACTED}
    assert redact({key.encode(): "plain"}) == {key: REDACTED}


@pytest.mark.parametrize("key", PLAIN.split())
def test_a_name_that_only_resembles_one_hides_nothing(key: str) -> None:
    assert not is_secret_key(key)
    for value in ("Ubud", 7, True, ["a"]):
        assert redact({key: value}) == redact_event({key: value}) == {key: value}


@pytest.mark.parametrize(
    "key", ["ai_tokens", "prompt_tokens", "gen_ai.usage.input_tokens", "active_sessions", "sent_emails"]
)
def test_a_count_of_private_things_is_none(key: str) -> None:
    assert redact({key: 812}) == redact_event({key: 812}) == {key: 812}
    assert redact({key: "abc"}) == {key: REDACTED}
    assert redact({key: 6_281_234_567_890}) == {key: REDACTED}


@pytest.mark.parametrize("key", ["is_mobile", "has_password", "needs_email", "show_phone"])
def test_an_answer_to_a_question_is_kept(key: str) -> None:
    assert redact({key: True}) == {key: True}


# One entry each; every spelling of these is private.
ENTRIES = """
    kitas, kitap, visa number, no visa, no kitas, nama depan, nama belakang, nama tengah, nama lengkap, nama ibu
    kandung, nama tamu, nama pemesan, atas nama, tempat lahir, tanggal lahir, alamat, no hp, no telp, no ktp, nik,
    no kk, npwp, no paspor, no rekening, no rek, nomor rekening, jawaban keamanan, kode otp, guest name, customer
    name, passenger name, cardholder, cardholder name, card holder, name on card, account holder, emergency
    contact, passport no, place of birth, mother maiden name, code verifier, client assertion, saml response,
    authorization code, device code, mnemonic, seed phrase, recovery phrase, recovery code, recovery codes, backup
    codes, license key, activation key, security answer, security question, otp, totp, mfa code, one time code,
    cvv, cvc code, auth key, client key, db pass, stripe key, cloudant key
"""
PLAIN_ENTRIES = """
    host name, file name, event name, span name, service name, product name, room name, bank name, place holder,
    stake holder, shipping method, license, license type, tokens used, token count, key count, cache key, sort
    key, primary key, partition key, public key, public keys, author, authority, visa, visa type, passport
    required, promo code, country code, postal code, status code, error code, kode pos, kode promo, nama kota,
    nama hotel, nama produk, tempat wisata, nomor kamar, jumlah tamu, random seed, question, answer, code
    challenge, client assertion type, download link, guest house, guest count, card header, card title, pin count,
    pinned, order number, flight number, device type
"""


def spellings(entry: str) -> list[str]:
    words = entry.split()
    pascal = "".join(map(str.capitalize, words))
    humps = words[0] + pascal[len(words[0]) :]
    prefixed = [f"billing_{'_'.join(words)}", f"booking{pascal}", f"x-{'-'.join(words)}", f"form[{'_'.join(words)}]"]
    return [*(sign.join(words) for sign in "_-. "), humps, pascal, "_".join(words).upper(), "".join(words), *prefixed]


def entries(text: str) -> list[str]:
    return [" ".join(entry.split()) for entry in text.split(",")]


@pytest.mark.parametrize("entry", entries(ENTRIES))
def test_one_entry_holds_in_every_spelling(entry: str) -> None:
    assert [name for name in spellings(entry) if not is_secret_key(name)] == []
    for name in (entry.replace(" ", "_"), spellings(entry)[4]):
        assert redact({name: "quokka"}) == {name: REDACTED}
        for text in (f"{name}=quokka", f'"{name}": "quokka"', f"/find?a=1&{name}=quokka&page=2", f"--{name} quokka"):
            assert "quokka" not in redact_text(text), text
    assert "quokka" not in redact_text(f"the {entry}: quokka")


@pytest.mark.parametrize("entry", entries(PLAIN_ENTRIES))
def test_a_name_of_ordinary_words_is_plain_in_every_spelling(entry: str) -> None:
    assert [name for name in spellings(entry) if is_secret_key(name)] == []
    assert "quokka" in redact_text(f"the {entry}: quokka")


@pytest.mark.parametrize("key", ["guest_names", "cardNumbers", "visa-numbers", "namaDepans"])
def test_several_values_of_a_private_name_are_private(key: str) -> None:
    assert redact({key: ["a b"]}) == redact({key: "a b"}) == {key: REDACTED}
    assert redact({key: 12}) == {key: 12}


@pytest.mark.parametrize("key", ["pin", "pin_number", "pinHash", "PAN-number", "card_num", "tel_no", "new_pin"])
def test_a_short_name_is_private_as_a_whole(key: str) -> None:
    assert is_secret_key(key)
    assert not is_secret_key(f"map_{key}_shown")
    assert not is_secret_key("map_pin_number")


WORDS = ("{}: {}", "{}={}", "{} = '{}'")
# Quoted names contain no spaces.
QUOTED = ('"{}": "{}"', "('{}', '{}')", "<{}>{}</>", '\\"{}\\":\\"{}\\"')


@pytest.mark.parametrize(
    ("key", "form"),
    [
        *product(["password", "alamat", "Set-Cookie", "no_hp", "apiKey"], WORDS + QUOTED),
        *product(["date of birth", "session id"], WORDS),
    ],
)
def test_a_private_name_in_a_text_hides_its_value(key: str, form: str) -> None:
    assert "quokka" not in redact_text("start " + form.format(key, "quokka"))


@pytest.mark.parametrize(
    ("key", "value", "kept"),
    [
        ("client_ip", "198.51.100.7", "198.51.100.0/24"),
        ("ip_address", "198.51.100.7", "198.51.100.0/24"),
        ("ipAddress", "10.1.2.3", "10.1.2.0/24"),
        ("client.address", "2001:db8:1:2::3", "2001:db8:1::/48"),
        ("network.peer.address", "198.51.100.7", "198.51.100.0/24"),
        (
            "X-Forwarded-For",
            "198.51.100.7, [2001:db8::1]:443, 10.0.0.1:80",
            "198.51.100.0/24, 2001:db8::/48, 10.0.0.0/24",
        ),
        ("remote_addr", "local", "local"),
        ("remote_addr", "wayan@example.com", "[email]"),
        ("client_ip", None, None),
        ("client_ip", ["198.51.100.7", 8000], ["198.51.100.0/24", 8000]),
        ("server.address", "10.1.2.3", "10.1.2.3"),
        ("trace_id", "4111111111111111", "4111111111111111"),
        ("span_id", "0812345678901234", "0812345678901234"),
        ("trace_id", "wayan@example.com", "[email]"),
        ("user_id", "u-0123456789abcdef", "u-0123456789abcdef"),
        ("user_id", 42, REDACTED),
        ("username", "wayan", REDACTED),
        ("[email]", "x", "x"),
    ],
)
def test_names_of_addresses_users_and_traces_keep_the_form_that_may_be_kept(key: str, value: Any, kept: Any) -> None:
    assert redact({key: value}) == redact_event({key: value}) == {key: kept}


def test_a_field_that_another_one_names_is_private() -> None:
    assert redact({"name": "password", "value": "x"}) == {"name": "password", "value": REDACTED}
    assert redact({"name": "colour", "value": "x"}) == {"name": "colour", "value": "x"}
    assert redact({"loc": ("body", "password"), "input": "x"}) == {"loc": ["body", "password"], "input": REDACTED}
    assert redact([("cookie", "a=b"), (b"x-api-key", b"c"), ("host", "d")]) == [
        ["cookie", REDACTED],
        ["b'x-api-key'", REDACTED],
        ["host", "d"],
    ]


def test_a_very_long_name_counts_by_its_end() -> None:
    assert is_secret_key("x" * 100_000 + "_password")
    assert not is_secret_key("password" * 10_000 + "_policy")
    assert len(str(redact({"x" * 100_000: 1}))) < 20_000


def test_names_have_a_kind_and_a_value_an_extent() -> None:
    assert field("password")[:2] == (Kind.SECRET, Extent.WORD)
    assert field("Cookie")[:2] == (Kind.SECRET, Extent.LINE)
    assert field("phone_number")[:2] == (Kind.SECRET, Extent.NUMBER)
    assert field("alamat")[:2] == (Kind.SECRET, Extent.PHRASE)
    assert field("---").kind is field("").kind is Kind.PLAIN
