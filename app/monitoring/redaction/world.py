"""The pack of other countries: national phone numbers with a trunk prefix, and words for phones and documents.

A national number without a trunk prefix, such as 8123 4567 in Singapore, looks like any other: it is found behind a
word.
"""

from .packs import RedactionPack, phrases

# A trunk prefix of 0, an area of one to four digits, and groups that are divided alike: 020 7946 0958, 06 12 34 56 78.
# Nine to eleven digits in all, since shorter ones are dates and times; no digits tied to the end, as in an id.
_GROUPS = "|".join(rf"\d{{2,4}}(?:{sign}\d{{2,4}}){{0,3}}" for sign in ("[ ]", "-", r"\."))
_TRUNK = rf"""
    (?!0\d{{4}}-0\d{{4}}(?!\d))                                             # a range of pages: 01200-01299
    (?:(?<![\-/#._])|(?<=/)(?=\(?\d{{1,5}}\)?[ ]))(?=\(?0[1-9](?:[ \-./()]{{0,3}}\d){{7,9}}(?!\d|[\-./:,]\d|[ ][1-9]\d))
    (?:
        \(0\d{{1,4}}\)[ \-./]{{0,3}}(?:{_GROUPS}|\d{{5,8}})
      | 0[1-9]\d{{0,4}}[ \-/]{{1,3}}(?:{_GROUPS}|\d{{5,9}})
      | 0[1-9]\d{{0,3}}\.\d{{2,4}}(?:\.\d{{2,4}}){{1,3}}
    )
  | 01[5-7]\d{{1,2}}[ /\-]{{1,3}}\d{{7,8}}                                # Germany, mobile
  | \(011\)[ ]?15-\d{{4}}-\d{{4}} | 011[ ]15-\d{{4}}-\d{{4}}            # Argentina, mobile
  | 8[ \-]?\([3489]\d{{2,4}}\)[ \-]?\d{{1,3}}[ \-]\d\d[ \-]\d\d           # Russia
  | 8[ \-]9\d\d[ \-]\d{{3}}[ \-]\d\d[ \-]?\d\d
  | \([1-9]\d\)[ ]?9?\d{{4}}-\d{{4}}                                      # Brazil
  | 1[3-9]\d[ \-]\d{{4}}[ \-]\d{{4}}                                      # China, mobile
"""

WORLD = RedactionPack(
    name="world",
    number_keys=phrases(
        """电话, 電話, 电话号码, 電話號碼, 電話番号, 手机, 手機, 手机号, 手机号码, 手機號碼, 联系电话, 聯絡電話,
        携帯, 携帯電話, 携帯番号, 携帯電話番号, 전화, 전화번호, 휴대폰, 휴대폰번호, 휴대전화, 핸드폰, 핸드폰번호,
        연락처, телефон, номер телефона, мобильный, мобильный телефон, telefon, telefonnummer, rufnummer,
        handynummer, mobilnummer, mobiltelefon, téléphone, numéro de téléphone, teléfono, número de teléfono, móvil,
        telefone, telefono, telefoon, telefoonnummer, โทรศัพท์, เบอร์โทร, điện thoại, số điện thoại, 银行卡号,
        銀行口座, 口座番号, 계좌번호"""
    ),
    word_keys=phrases(
        """护照, 护照号, 护照号码, 護照, 護照號碼, パスポート, パスポート番号, 旅券, 旅券番号, 여권, 여권번호,
        паспорт, номер паспорта, серия паспорта, reisepass, reisepassnummer, reisepass nr, passnummer, passeport,
        passeport no, numéro de passeport, numero de passeport, pasaporte, número de pasaporte, passaporte,
        passaporto, paspoort, paspoortnummer, 身份证, 身份证号, 身份证号码, 身分證, 身分證字號, マイナンバー,
        주민등록번호, снилс, инн"""
    ),
    phones=_TRUNK,
    phone_labels=phrases(
        """电话, 電話, 电话号码, 電話號碼, 電話番号, 手机, 手機, 手机号, 手机号码, 手機號碼, 微信, 携帯, 携帯電話,
        携帯番号, お電話, 전화, 전화번호, 휴대폰, 휴대전화, 핸드폰, 연락처, телефон, телефона, телефону, тел, моб,
        мобильный, ватсап, вотсап, telefon, telefonnummer, rufnummer, handy, handynummer, mobil, mobilnummer,
        festnetz, téléphone, tél, portable, mobile, fixe, teléfono, móvil, celular, telefone, telemóvel, telefono,
        cellulare, telefoon, gsm, puhelin, telefonní, komórka, เบอร์, โทร, โทรศัพท์, điện thoại, đt, sđt, هاتف, جوال,
        موبايل, טלפון, נייד, फ़ोन, फोन, मोबाइल"""
    ),
    document_labels=phrases(
        """passport, passport no, passport number, passports, 护照, 护照号, 护照号码, 護照, 護照號碼, 護照号码,
        パスポート, パスポート番号, 旅券, 旅券番号, 여권, 여권번호, паспорт, паспорта, загранпаспорт, reisepass,
        reisepassnummer, passnummer, passnr, pass nr, pass-nr, ausweisnummer, ausweisnr, personalausweis,
        personalausweisnummer, passeport, pasaporte, passaporte, passaporto, paspoort, paspoortnummer,
        paszport, iban, 身份证, 身份证号, 身份证号码, 銀行口座, 口座番号, 계좌번호, 银行账号, 银行卡号, bank account,
        account number, kontonummer"""
    ),
)
