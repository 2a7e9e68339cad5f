"""Checks for payment card numbers."""

_NORMAL_CARD = 16
# The sum of the digits of twice a digit
_DOUBLED = str.maketrans("0123456789", "0246813579")
_MAX_GROUPS, _MAX_GROUP_LENGTH, _PAIR = 6, 8, 2


def passes_luhn(digits: str) -> bool:
    """Return True if the last of `digits` is the check digit of the others (ISO/IEC 7812)."""
    return (sum(map(int, digits[::-2])) + sum(map(int, digits[-2::-2].translate(_DOUBLED)))) % 10 == 0


def is_card(groups: list[str]) -> bool:
    """Return True if these groups of digits are a payment card number.

    In one piece, the check digit and the first one decide: numbers of payment cards begin with 2 to 9, those that begin
    with 1 are mostly times. Several groups, which may be as many numbers, must have an issuer's prefix and length too.
    """
    digits = "".join(groups)
    if digits[0] in "01":
        return False
    if len(groups) > 1:
        likely = _has_issuer(digits) and _is_one([len(group) for group in groups])
    else:
        likely = len(digits) > 13 or digits[0] in "456"  # noqa: PLR2004 -- 13 digits are an article's number too
    return likely and passes_luhn(digits) and not _is_date(digits)


def _is_one(sizes: list[int]) -> bool:
    """Return True if groups of these sizes are probably one number: all alike, or as long as people write them."""
    first, alike = sizes[0], set(sizes[:-1]) == {sizes[0]}
    likely = first != _PAIR if alike else first > _PAIR + 1 and min(sizes[:-1]) > _PAIR and len(sizes) <= _MAX_GROUPS
    return likely and max(sizes) <= _MAX_GROUP_LENGTH


def _has_issuer(digits: str) -> bool:
    length, first, second, fourth = len(digits), digits[0], int(digits[:2]), int(digits[:4])
    if length == _NORMAL_CARD:
        return first in "46" or 50 <= second <= 58 or 2221 <= fourth <= 2720 or second == 35  # noqa: PLR2004
    if length == 15:  # noqa: PLR2004
        return second in (34, 37)
    if length == 14:  # noqa: PLR2004
        return second in (30, 36, 38, 39)
    return first == "6" or (length != 18 and first == "4") or 50 <= second <= 58  # noqa: PLR2004


def _is_date(digits: str) -> bool:
    """Return True for a date and a time without signs, such as 20261123204133."""
    return (
        len(digits) > 13  # noqa: PLR2004
        and digits[:2] == "20"
        and "01" <= digits[4:6] <= "12"
        and "01" <= digits[6:8] <= "31"
        and digits[8:10] < "24"
        and digits[10:12] < "60"
    )
