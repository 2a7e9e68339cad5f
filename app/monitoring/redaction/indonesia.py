"""The pack of Indonesia: NIK, NPWP, local phone numbers, and the Indonesian words for them."""

from . import indonesia_names as names
from .packs import NumberForm, RedactionPack, phrases

_PROVINCES = frozenset(
    (*range(11, 22), *range(31, 37), 51, 52, 53, *range(61, 66), *range(71, 77), 81, 82, *range(91, 98))
)
_WOMENS_DAYS = 40
# Seconds since 1970 of the years 2018 to 2033, in microseconds and as a string of the same length.
_EARLIEST, _LATEST = "1500000000000000", "2000000000000000"


def is_nik(digits: str) -> bool:
    """Return True if 16 digits have the structure of a NIK: province, regency, district, date of birth, number.

    Women's days of birth are 41 to 71. Microseconds of our time are none, though some NIK of southern Sumatra look the
    same.
    """
    regency, day, month = int(digits[2:4]), int(digits[6:8]), int(digits[8:10])
    if day > _WOMENS_DAYS:
        day -= _WOMENS_DAYS
    return (
        int(digits[:2]) in _PROVINCES
        and (1 <= regency <= 40 or 71 <= regency <= 79)  # noqa: PLR2004 -- regencies, then cities
        and digits[4:6] != "00"
        and 1 <= day <= 31  # noqa: PLR2004
        and 1 <= month <= 12  # noqa: PLR2004
        and digits[12:] != "0000"
        and not _EARLIEST <= digits < _LATEST
    )


# Separators that people write between digits, and the plus that stands for a blank in URLs.
_BETWEEN = r"(?:[ \t.()\-_]{0,3}|\+)"
# Also where three digits or more follow each, unlike in most paths, and the number begins with a sign or a zero.
_LOOSE = rf"(?:{_BETWEEN}|[/,](?=\d{{3}}))"
_SIGNS = r"[ \t\r\n.,/_\-]"
_MOBILE = rf"(?:(?:[+(]{{1,2}}(?:00)?|00)62\)?{_BETWEEN}(?:\(?0\)?{_BETWEEN})?|\(?0)8[1-9]\)?"
_PHONES = rf"""
    # Mobile: 0812..., 62812..., +62 (0)812..., 0062 812...
    (?<!/){_MOBILE}(?:{_LOOSE}\d){{6,10}}
  | (?<=/){_MOBILE}(?:(?:{_BETWEEN}|,(?=\d{{3}}))\d){{6,10}}                # in a path, whose parts slashes divide
  | 62\)?{_BETWEEN}(?:\(?0\)?{_BETWEEN})?8[1-9]\)?(?:{_BETWEEN}\d){{6,10}}
    # Landline: (0361) 123456, 021-1234567, 0361/123456; Bali's and Jakarta's also without a sign
  | \(?0(?!900)[2-79]\d{{1,2}}\)?[ \-./]{{1,3}}\d{{3,4}}[ \-.]?\d{{2,4}}(?:[ \-.]?\d{{1,4}})?
  | \(?0[2-79]\d{{1,2}}\)?[ ]\d\d(?:[ \-.]\d\d){{2}}
  | 0(?:21|22|24|31|36[1-8]|274|251|341|411|511)\d{{6,8}}
"""

INDONESIA = RedactionPack(
    name="indonesia",
    number_keys=phrases(
        """telp, telepon, handphone, ponsel, nomor hp, no hp, nomor telepon, no telp, nomor wa, no wa, nik, ktp, npwp,
        no ktp, nomor ktp, nomor induk kependudukan, no kk, nomor kk, kartu keluarga, kartu kredit, nomor kartu, nomor
        rekening, no rekening, rekening"""
    )
    + names.NUMBER_KEYS,
    word_keys=phrases("sandi, kata sandi") + names.WORD_KEYS,
    phrase_keys=phrases(
        """alamat, jalan, nama lengkap, nama ibu, tanggal lahir, tgl lahir, paspor, nomor paspor, no paspor"""
    )
    + names.PHRASE_KEYS,
    whole_keys=("hp",),
    tails=("lengkap", "rumah", "kantor", "tinggal", "domisili", "pengiriman"),
    forms=(
        NumberForm(
            r"\d{2}S\d{3}S\d{3}S\dS\d{3}S\d{3}(?!\d)".replace("S", f"{_SIGNS}{{1,3}}"),
            "[npwp]",
            unmistakable=True,
        ),
        NumberForm(
            r"(?>\d(?:[ .\-]?\d){5,17})"
            r"[ ,(]{1,3}(?i:a\.n\.?|a/n|an\.|atas nama)[ :]{1,2}(?:[A-Z][\w'-]{0,24}[ .]?){1,5}",
            "[account]",  # the number of a bank account and its holder
            unmistakable=True,
        ),
        NumberForm(
            rf"\d(?:{_SIGNS}{{0,3}}\d){{15}}(?!\d)",
            "[nik]",
            check=is_nik,
            groups=(
                *((16,), (4, 4, 4, 4), (6, 6, 4), (6, 10), (12, 4), (2, 2, 2, 6, 4), (2, 2, 2, 2, 2, 2, 4)),
                *((6, 2, 2, 2, 4), (1,) * 16),
            ),
            labels=("nik", "ktp", "e-ktp", "identity", "identitas", "kependudukan", "kk"),
        ),
    ),
    phones=_PHONES,
    phone_labels=("telp", "telepon", "hp", "handphone", "wa", "hubungi", "kontak"),
    glued_labels=("wa", "hp", "telp", "telepon", "nomor"),
    document_labels=phrases(
        """npwp, paspor, nomor paspor, no paspor, kitas, kitap, itas, itap, vitas, niora, rekening, nomor rekening,
        no rekening, no. rekening, rek, no rek, no. rek, norek, nomor rek, sim, nomor sim"""
    ),
    calling_code="62",
    min_international_digits=10,
)
