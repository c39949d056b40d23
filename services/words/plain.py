"""Text from outside, made harmless: pure."""

import re
import unicodedata
from typing import Final

#: Joiners that scripts and emoji need; every other format character can turn a line around or hide in it.
_JOINERS: Final = "\u200c\u200d"
_BLANKS: Final = frozenset({"Cc", "Zl", "Zp"})
_DROPPED: Final = frozenset({"Cf", "Cs"})
#: So much more is looked at than is kept: a text of megabytes costs no more than a short one.
_LOOKED_AT: Final = 4
_WORD_JOINER: Final = "\u2060"
#: What joins the parts of an address: between two figures it does not.
_IN_ADDRESSES: Final = re.compile(r"(?<=[^\s\d])[.@](?=\S)|(?<=\d)[.@](?=[^\s\d])|:(?=//)")


def plain(text: str, most: int = 200) -> str:
    """Give text from outside as one line: no control characters, no direction overrides, at most `most` characters."""
    line = " ".join("".join(_harmless(character) for character in text[: most * _LOOKED_AT]).split())
    return line if len(line) <= most else line[: most - 1] + "…"


def unlinked(text: str) -> str:
    """Keep mail programs from making a link of a web or e-mail address in a text that is shown as HTML.

    A word joiner, which nobody sees, stands in it before dots, @ and ://; figures, and so times, stay as they are.
    """
    return _IN_ADDRESSES.sub(_WORD_JOINER + r"\g<0>", text)


def _harmless(character: str) -> str:
    category = unicodedata.category(character)
    if category in _BLANKS:
        return " "
    return "" if category in _DROPPED and character not in _JOINERS else character
