"""A letter as a message of Slack's: Block Kit for an incoming webhook. Pure.

Text from outside is escaped as Slack asks for, and marked `verbatim`: no name is a mention, a link, or markup.
"""

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from services.notifier import layout
from services.notifier.layout import Page, Section
from services.notifier.letter import Company, Letter
from services.words import tongue
from services.words.story import Line
from services.words.tongue import Tongue

#: Slack's limits.
BLOCKS_MOST: Final = 50
HEADER_MOST: Final = 150
TEXT_MOST: Final = 3000
#: No sentence and no value is longer, escaped.
_LINE_MOST: Final = 1200
_LINK_MOST: Final = 1600
_LABEL_MOST: Final = 300
#: What Slack reads as markup, and what stands for it.
_HARMLESS: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "*": "\u2217", "~": "\u223c", "`": "\u02cb"}
_IN_URL: Final = {"&": "&amp;", "<": "%3C", ">": "%3E", "|": "%7C", " ": "%20"}

Block = dict[str, Any]


def body(letter: Letter, company: Company, *, language: str, console_url: str) -> bytes:
    """Give the JSON that tells a letter in a channel."""
    words = tongue.of(language)
    page = layout.page(letter, company, words, console_url=console_url)
    blocks = [_header(page), *_intro(page)]
    for section in page.sections:
        blocks += _section(section, words)
    if len(blocks) > BLOCKS_MOST - 1:
        blocks = [*blocks[: BLOCKS_MOST - 2], *_texts(["…"])]
    blocks.append(_context(escaped(page.company)))
    message = {
        "text": escaped(page.subject),  # what a notification shows
        "blocks": blocks,
        "unfurl_links": False,
        "unfurl_media": False,
    }
    return msgspec.json.encode(message)


def escaped(text: str, most: int = _LINE_MOST) -> str:
    """Give text that Slack shows as it is, at most so many characters."""
    whole: list[str] = []
    left = most
    for character in text:
        shown = _HARMLESS.get(character, character)
        if len(shown) > left - 1:
            return "".join([*whole, "…"])
        whole.append(shown)
        left -= len(shown)
    return "".join(whole)


def _header(page: Page) -> Block:
    """Plain text has no markup, and no escapes either."""
    text = page.subject.replace("<", "\u2039").replace(">", "\u203a")
    subject = text if len(text) <= HEADER_MOST else text[: HEADER_MOST - 1] + "…"
    return {"type": "header", "text": {"type": "plain_text", "text": subject, "emoji": False}}


def _intro(page: Page) -> list[Block]:
    return _texts(escaped(sentence) for sentence in page.intro)


def _section(section: Section, words: Tongue) -> list[Block]:
    """Tell one thing, or list many, under a line."""
    lines = [f"*{escaped(section.label)}: {escaped(section.title)}*", *map(escaped, section.paragraphs)]
    lines += [f"{escaped(label)}: {escaped(value)}" for label, value in section.facts]
    lines += [
        f"• {escaped(found.field)}: {escaped(found.local)} ({words.gettext('Booking app')}), "
        f"{escaped(found.calcom)} (Cal.com)"
        for found in section.differences
    ]
    lines += [f"• {escaped(name)}: {escaped(step)}" if name else escaped(step) for name, step in section.steps]
    lines += [f"`{escaped(command)}`" for command in section.commands]
    lines += [_row(row, words) for row in section.rows]
    if section.more:
        lines.append(escaped(section.more))
    if section.url:
        lines.append(_link(section.url, words.gettext("Review page:").rstrip(":")))
    blocks = [{"type": "divider"}, *_texts(lines)]
    if section.zone:
        blocks.append(_context(escaped(words.gettext("Times are those of %(zone)s.", zone=section.zone))))
    return blocks


def _row(row: Line, words: Tongue) -> str:
    begun = f" ({words.gettext('has begun already')})" if row.begun else ""
    told = ", ".join(escaped(part, _LINE_MOST // 4) for part in (row.time, row.customer, row.issue))
    return f"• {_link(row.url, row.about)}: {told}{escaped(begun)}"


def _link(url: str, label: str) -> str:
    """Link, or name alone what has an address that would not fit."""
    address = "".join(_IN_URL.get(character, character) for character in url)
    named = escaped(label.replace("|", "¦"), _LABEL_MOST)
    return f"<{address}|{named}>" if len(address) <= _LINK_MOST else named


def _texts(lines: Iterable[str]) -> list[Block]:
    """Put lines into as few blocks as they fit in."""
    blocks: list[Block] = []
    text = ""
    for line in lines:
        if text and len(text) + 1 + len(line) > TEXT_MOST:
            blocks.append(_text(text))
            text = ""
        text = f"{text}\n{line}" if text else line
    return [*blocks, _text(text)] if text else blocks


def _text(text: str) -> Block:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text, "verbatim": True}}


def _context(text: str) -> Block:
    return {"type": "context", "elements": [{"type": "mrkdwn", "text": text, "verbatim": True}]}
