"""Escaping of characters that could forge a log line or mislead its reader.

JSON escapes newlines and the other controls below U+0020 itself, but not C1 controls, Unicode's line separators or
bidirectional overrides; a console escapes nothing.
"""

import re

# C0 but tab and newline; DEL and C1, among them NEL and CSI; marks and overrides of direction; line and paragraph
# separators; invisible spaces and operators; interlinear annotations; halves of surrogate pairs; tag characters.
_UNSAFE = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f"
)
_IN_TEXT = re.compile(f"[{_UNSAFE}]")
_IN_LINE = re.compile(f"[{_UNSAFE}\n]")
_NAMES = {"\n": "\\n", "\r": "\\r"}


def _name(match: re.Match[str]) -> str:
    # In brackets, so that what follows does not become a part of it when the text is looked through again.
    return _NAMES.get(match[0]) or f"<U+{ord(match[0]):04X}>"


def escape(text: str, *, one_line: bool) -> str:
    """Return `text` with unsafe characters escaped; newlines stay unless `one_line`."""
    if text.isprintable():
        return text
    return (_IN_LINE if one_line else _IN_TEXT).sub(_name, text)
