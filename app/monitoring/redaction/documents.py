"""Detection of the numbers of documents and accounts, which have no form of their own, behind their words.

"paspor C7654321", "护照号码：E12345678", "No. Rek BCA 123 456 7890". Constraint: without a sign or the word "number"
between, a value needs five digits, since a sentence goes on after such a word too.
"""

import re
from collections.abc import Iterator, Sequence

from .amounts import DATE
from .credentials import REDACTED
from .labels import Roots, word_pattern
from .packs import RedactionPack
from .spelling import Span

_NUMBER_WORDS = (
    r"no|nr|num|number|numbers|nomor|nummer|numéro|numero|número|n°|nº|№|id|ke|is|adalah|рф|номер|серия|серии|серию"
)
# Of scripts that write words together, so that a letter of the value may follow: 护照号码是E12345678
_UNSPACED_WORDS = r"号码|號碼|号|號|番号|번호|は|为|是|為|는|은"
_BANKS = r"bank|mandiri|permata|danamon|niaga|maybank|panin|mega|jago|jenius|seabank|syariah|bpd|bali|usaha|saya|kami"
_CURRENCY = r"(?:RP|IDR|USD|EUR|SGD|AUD|GBP|JPY|CNY|KRW|RUB)\b"
_GAP = re.compile(
    rf"""(?P<words>(?>(?:[ \t_.,:\-]{{0,3}}(?:
          \[redacted\] | (?:{_UNSPACED_WORDS})
        | (?i:{_NUMBER_WORDS})(?![^\W\d_\u0e00-\uffff])[.]?
        | (?i:{_BANKS})(?![^\W\d_]) | (?!{_CURRENCY})[A-Z]{{2,6}}(?!\w))){{0,3}}))
    (?P<sign>["'\\\])]{{0,4}}[ \t.]{{0,2}}[:=#№>-]{{0,2}}[ \t]{{0,2}}[bu]?["'\\(\[]{{0,4}})""",
    re.VERBOSE,
)
_VALUE = re.compile(
    r"""(?!(?i:rp|idr|usd|eur|sgd|aud)[ .]?\d)(?:
        \d{1,12}(?:(?:[ ./\-]{1,3}|[ ](?i:номер|no\.?)[ ]|[ ]?№[ ]?)\d{2,12}|-\d){1,5}  # 4510 № 123456
      | [A-Za-z]{0,3}[ \-]?\d[A-Za-z\d]{1,19}(?:-[A-Za-z\d]{1,2})?            # C 7654321, 2C21JE1234-T
      | (?=[A-Za-z]{0,8}\d)[A-Za-z\d]{6,20}
    )(?![^\W_\u0e00-\uffff]|-\w|[.,]\d)""",
    re.VERBOSE,
)
_SAID = re.compile(r"[:=#№]|(?i:\b(?:no|nr|number|nomor|nummer|номер)\b|n[°º]|番号|号码|號碼|번호)")
_MIN_DIGITS, _MIN_DIGITS_BEHIND_SIGN, _MIN_LENGTH = 5, 2, 6


class Documents:
    """The words for documents in force, those of packs."""

    __slots__ = ("_pattern", "_roots")

    def __init__(self) -> None:
        self.use(())

    def use(self, packs: Sequence[RedactionPack]) -> None:
        """Replace the words by those of `packs`."""
        words = [word.lower() for pack in packs for word in pack.document_labels]
        self._roots = Roots(words)
        self._pattern = re.compile(word_pattern(words, whole=True)) if words else None

    def find(self, text: str) -> Iterator[Span]:
        """Yield start, end and replacement of each number behind a word for it, in their order."""
        if self._pattern is None or not self._roots.are_in(text):
            return
        position = 0
        while (label := self._pattern.search(text, position)) is not None:
            position = label.end()
            gap = _GAP.match(text, position)
            value = _VALUE.match(text, gap.end()) if gap else None
            if gap and value and self._is_number(value[0], label[0] + gap[0]) and not DATE.match(text, gap.end()):
                position = value.end()
                yield value.start(), position, REDACTED

    @staticmethod
    def _is_number(value: str, before: str) -> bool:
        digits, length = sum(map(str.isdigit, value)), sum(map(str.isalnum, value))
        said = _SAID.search(before) is not None
        return length >= _MIN_LENGTH and digits >= (_MIN_DIGITS_BEHIND_SIGN if said else _MIN_DIGITS)


documents = Documents()
