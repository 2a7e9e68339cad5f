"""The meaning of a field's name for its value.

A name is read as words: case, dashes, dots, brackets and humps do not matter. The last words decide, so that
`access_token` is private while `token_count`, `session_pool_size` and `email_sent` are not.
"""

import re
from collections.abc import Iterable, Sequence
from enum import Enum
from functools import lru_cache
from typing import NamedTuple

from .packs import RedactionPack


class Kind(Enum):
    """The treatment of a field's value."""

    PLAIN = "looked through by form"
    SECRET = "replaced whatever it holds"  # noqa: S105 -- a description
    COUNTABLE = "replaced unless it is a small number"
    CLIENT = "cut to its network"
    USER = "kept in its sanitised form only"
    TRACE = "kept where it is a hexadecimal id"


class Extent(Enum):
    """The extent of an unquoted private value in running text."""

    WORD = "to the next blank or delimiter"
    LINE = "to the end of the line"
    NUMBER = "digits, blanks and dashes; else a word"
    PHRASE = "several words"


Phrases = frozenset[tuple[str, ...]]


class Field(NamedTuple):
    """The meaning of a name: `words` are its words in lower case."""

    kind: Kind
    extent: Extent
    words: tuple[str, ...]


def word_set(text: str) -> frozenset[str]:
    """Return the words of `text`."""
    return frozenset(text.split())


def spellings(phrases: Iterable[tuple[str, ...]]) -> Phrases:
    """Return `phrases`, and those of several words in one piece too: visa number, visanumber."""
    found = set(phrases)
    return frozenset(found | {("".join(words),) for words in found if len(words) > 1})


def _table(text: str) -> Phrases:
    """Return the lower-case phrases of a comma-separated text, in every spelling."""
    phrases = " ".join(text.split()).split(",")
    return spellings(tuple(phrase.split()) for phrase in phrases if phrase.strip())


def _ends(phrases: Iterable[tuple[str, ...]]) -> frozenset[str]:
    """Return the last words of the phrases that have several."""
    return frozenset(words[-1] for words in phrases if len(words) > 1)


_LINE = _table("authorization, cookie, cookies, set cookie, cookie jar")
_NUMBER = _table(
    """phone, phones, phone number, telephone, whatsapp, fax, cellphone, mobile number, mobile no, contact mobile,
    guest mobile, customer mobile, user mobile, contact number, ssn, social security, social security number, tax id,
    national id, identity number, identity card, id card, card number, card no, credit card, debit card, cc number,
    account number, account no, bank account, routing number, cvv, cvc, csc, cvv code, cvc code, security code, visa
    number, visa no, residence permit, insurance number, medical record number"""
)
_PERSON = _table(
    """full name, first name, last name, middle name, given name, family name, maiden name, mother maiden name, mothers
    maiden name, surname, legal name, real name, guest name, customer name, traveller name, traveler name, passenger
    name, patient name, employee name, contact name, recipient name, sender name, payer name, payee name,
    beneficiary name, billing name, shipping name, father name, mother name, spouse name, holder name, cardholder,
    card holder, cardholder name, name on card, account holder, emergency contact, next of kin"""
)
_PHRASE = _PERSON | _table(
    """address, addresses, street, street address, home address, postal address, billing address, passphrase, dob,
    birthday, birthdate, birth date, date of birth, place of birth, passport, passport number, passport no, iban,
    driver license, drivers license, driving licence, mnemonic, seed phrase, recovery phrase, backup phrase, secret
    phrase, security answer, secret answer, recovery answer, security question, secret question, recovery question"""
)
_WORD = _table(
    """password, passwords, passwd, pwd, pw, passcode, user pass, db pass, database pass, smtp pass, ftp pass, admin
    pass, root pass, login pass, key pass, store pass, keystore pass, contrasena, contrase\u00f1a, user pin, card pin,
    account pin, login pin, security pin, new pin, old pin, current pin, confirm pin, pin confirmation, otp, otp code,
    mfa code, totp, totp code, sms code, login code, access code, one time code, 2fa code, two factor code,
    verification code, recovery code, recovery codes, backup code, backup codes, reset code, pin code, device code,
    auth code, authorization code, code verifier, client assertion, saml assertion, saml response, id token hint,
    magic link, secret, secrets, credential, credentials, private key, priv key, secret key, signing key, encryption
    key, master key, access key, access key id, account key, shared key, preshared key, ssh key, subscription key,
    api key, api keys, license key, licence key, activation key, recovery key, backup key, wallet key, hmac key, auth
    key, client key, service key, consumer key, deploy key, webhook key, db key, database key, wallet seed, totp seed,
    connection string, token, tokens, jwt, bearer, basic auth, http auth, proxy auth, signature, xsrf, csrf, session,
    sessions, session id, session ids, session key, sid, jsessionid, phpsessid, connect sid, email, emails, mail,
    mails, e mail, email address, mail address, email addr, mac address, prompt, gen ai completion, gen ai input
    messages, gen ai output messages, gen ai system instructions, input value, x amz credential"""
)
# Vendors whose keys have no form of their own, or are named so: cloudant_key.
_VENDORS = """
    algolia anthropic aws azure cloudant cloudflare datadog deepl fastly gcp github gitlab heroku ibm ibmcloud iam
    mailchimp mailgun mapbox midtrans mixpanel openai paypal sendgrid sentry sl softlayer square stripe twilio xendit
"""
_WORD |= _table(", ".join(f"{vendor} key" for vendor in _VENDORS.split()))
# Too common as a part of other names: map_pin, day_pass, is_mobile.
_WHOLE = _table("card, pan, pass, pin, auth, sig, tel, mobile, cc")
# Words that may follow these: pin_number, pin_hash; not card_header.
_WHOLE_TAILS = word_set("number num no nr hash hashed encrypted")
_QUESTIONS = word_set(
    """is has have needs wants can allow allows with without require requires use uses show hide enable skip"""
)
# Names written in one piece: accesstoken, dbpassword, XSRFTOKEN.
_ENDINGS = ("password", "passwd", "secret", "token", "apikey", "cookie", "credential", "credentials", "sessid")
# Words that may follow the significant one: password_hash, card_number, address_line_1, authorization_header.
_TAILS = word_set(
    """value values header headers string str text raw plain hash hashed digest encoded encrypted b64 base64 field
    input param line line1 line2 number num no nr confirmation confirm repeat again new old current"""
)
# Words that end a name of several in running text: "API key:", "date of birth:". Of these the name is a span's.
_LAST_WORDS = _ends(_NUMBER | _PHRASE | _WORD) - word_set("value messages instructions completion auth")
_PLURALS = word_set("tokens sessions secrets emails mails phones cookies passwords credentials")

_ADDRESS = word_set("ip ips ipaddress ipaddr ipv4 ipv6 addr address addresses")
_BARE_ADDRESS = _ADDRESS - {"address", "addresses"}
_CLIENT = word_set("client remote peer visitor real source src")
_SERVER = word_set(
    """server local bind listen host destination dst dest gateway pod node dns upstream socket broker network cluster
    database db redis metrics"""
)
_FORWARDED = _table("x forwarded for, forwarded for, x real ip, cf connecting ip, true client ip, x client ip")
_USER = _table(
    """user id, userid, user name, username, enduser id, customer id, guest id, member id, user ids, enduser name"""
)
_TRACE = _table("trace id, span id, parent span id, parent id, traceid, spanid")
# The words of replacements such as [email], which are no names.
_MARKS = word_set("email phone card ssn iban jwt key")
# Written in capitals: HTTPCookie is two words, and so is accessToken.
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_NO_WORD = re.compile(r"[\W_]+")
# Of a longer name only the end is read.
MAX_KEY_LENGTH = 128


def words_of(name: str) -> tuple[str, ...]:
    """Return the words of a name, in lower case."""
    return tuple(_NO_WORD.sub(" ", _HUMP.sub("_", name)).lower().split())


class Tables:
    """The names in force: the built-in ones, those of packs, and those that the service has added."""

    __slots__ = ("added", "last_words", "longest", "marks", "number", "phrase", "secret", "tails", "whole")

    def __init__(self) -> None:
        self.use((), ())

    def use(self, packs: Sequence[RedactionPack], added: Sequence[str]) -> None:
        """Add the names of `packs` and `added` to the built-in ones."""
        self.added = frozenset(map(words_of, added))
        self.number = _NUMBER.union(*(_spelt(pack.number_keys) for pack in packs))
        self.phrase = _PHRASE.union(*(_spelt(pack.phrase_keys) for pack in packs))
        self.whole = _WHOLE.union(*(map(words_of, pack.whole_keys) for pack in packs))
        local = self.number.union(self.phrase, *(_spelt(pack.word_keys) for pack in packs))
        self.secret = _LINE | _WORD | local | self.added
        self.longest = max(map(len, self.secret))
        self.tails = _TAILS.union(*(pack.tails for pack in packs))
        self.last_words = _LAST_WORDS | self.tails | _ends(local | self.added)
        self.marks = _MARKS.union(form.replacement.strip("[]") for pack in packs for form in pack.forms)


def _spelt(names: Iterable[str]) -> Phrases:
    return spellings(map(words_of, names))


tables = Tables()


def is_secret_key(key: str) -> bool:
    """Return True if a field of this name is private with any value. Case, dashes and humps are ignored."""
    return field(key).kind in (Kind.SECRET, Kind.COUNTABLE)


def field(key: str) -> Field:
    """Return the meaning of the name `key` for its value."""
    return _field(key if len(key) <= MAX_KEY_LENGTH else key[-MAX_KEY_LENGTH:])


@lru_cache(maxsize=4096)
def _field(key: str) -> Field:
    if key.startswith("[") and key[1:].partition("]")[0] in tables.marks:
        return Field(Kind.PLAIN, Extent.WORD, ())
    words = words_of(key)
    kind, phrase = _kind(words)
    if phrase in _LINE:
        extent = Extent.LINE
    elif phrase in tables.number or phrase in tables.whole:
        extent = Extent.NUMBER
    elif phrase in tables.phrase:
        extent = Extent.PHRASE
    else:
        extent = Extent.WORD
    return Field(kind, extent, words)


def _kind(words: tuple[str, ...]) -> tuple[Kind, tuple[str, ...]]:
    for count in range(1, len(words) + 1) if tables.added else ():
        if words[-count:] in tables.added:
            return Kind.SECRET, words[-count:]
    for kind, phrases in ((Kind.TRACE, _TRACE), (Kind.USER, _USER), (Kind.CLIENT, _FORWARDED)):
        if any(words[-count:] in phrases for count in range(1, 5)):
            return kind, ()
    if _is_network_address(words):
        return (Kind.PLAIN if _SERVER.intersection(words) and not _CLIENT.intersection(words) else Kind.CLIENT), ()
    phrase = _whole(words) or _secret_phrase(words)
    plural = None if phrase or not words[-1:] or not words[-1].endswith("s") else _singular(words)
    if phrase is None and plural is None:
        return Kind.PLAIN, ()
    if phrase is None:
        return Kind.COUNTABLE, plural or ()
    countable = len(words) > 1 and (words[-1] in _PLURALS or words[0] in _QUESTIONS)
    return Kind.COUNTABLE if countable else Kind.SECRET, phrase


def _is_network_address(words: tuple[str, ...]) -> bool:
    """Return True for client_ip, ip_address, server.address and the like; a bare "address" is a street's."""
    if not words or words[-1] not in _ADDRESS:
        return False
    if words[-1] in _BARE_ADDRESS:
        return words[-2:-1] not in (("email",), ("mail",), ("mac",), ("street",))
    return bool((_CLIENT | _SERVER | {"ip", "http", "net"}).intersection(words[:-1]))


def _whole(words: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return the words if they are private as a whole name, without words that may follow."""
    while len(words) > 1 and words[-1] in _WHOLE_TAILS:
        words = words[:-1]
    return words if words in tables.whole else None


def _singular(words: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return the private phrase of several words whose plural ends the name: guest_names."""
    phrase = _secret_phrase((*words[:-1], words[-1][:-1]))
    return phrase if phrase is not None and len(phrase) > 1 else None


def _secret_phrase(words: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return the longest private phrase at the end, without words that may follow it."""
    while words:
        for count in range(min(tables.longest, len(words)), 0, -1):
            if words[-count:] in tables.secret:
                return words[-count:]
        if words[-1].endswith(_ENDINGS):
            return ("cookie",) if words[-1].endswith("cookie") else ("token",)
        bare = words[-1].rstrip("0123456789")
        if bare in tables.tails or not bare:
            words = words[:-1]
        elif bare != words[-1]:  # password2, address1
            words = (*words[:-1], bare)
        else:
            return None
    return None


# The cached meaning of a name depends on the tables.
forget = _field.cache_clear
