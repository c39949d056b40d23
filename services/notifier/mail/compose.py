"""A letter as a mail: pure, the date handed in."""

import re
from collections.abc import Mapping
from datetime import datetime
from email.header import Header
from email.headerregistry import Address, HeaderRegistry
from email.message import EmailMessage
from email.policy import EmailPolicy
from email.utils import format_datetime, parseaddr, quote
from functools import cache
from textwrap import wrap
from typing import Any, Final
from uuid import UUID

from services.notifier import layout
from services.notifier.letter import Company, Letter, Recipient
from services.words import tongue
from services.words.plain import plain
from services.words.templates import environment

#: So many ancestors are named at most: the thread's first one and its latest.
_REFERENCES: Final = 20
_MESSAGE_ID: Final = re.compile(r"<[!-;=?A-~]{1,240}@[!-;=?A-~]{1,255}>")
_NAME_MAX: Final = 120
_WIDTH: Final = 76
#: How RFC 2047's encoded words begin: what comes from outside could hide in them what `plain` takes away.
_ENCODED: Final = "=?"


class Unaddressable(Exception):  # noqa: N818 - says what the address is
    """No mail can be sent to this address."""


def message_id(recipient_id: UUID, number: int, mail_from: str) -> str:
    """Give the Message-ID of a recipient's letter of that number: always the same one."""
    return f"<{recipient_id}.{number}@{sender(mail_from).domain}>"


def sender(mail_from: str) -> Address:
    """Read `Name <address>`. Raises ValueError if that is no address with a domain."""
    name, address = parseaddr(mail_from)
    if not address.rpartition("@")[0] or not address.rpartition("@")[2]:
        raise ValueError(f"{mail_from!r} is not an address: `Name <name@domain>` is wanted")
    return _address(name, address)


def subject_of(letter: Letter, company: Company, language: str) -> str:
    """Give the subject of a letter's mail: what a later letter of the same thread answers to."""
    return layout.subject(letter, company, tongue.of(language))


def compose(
    letter: Letter,
    company: Company,
    to: Recipient,
    *,
    console_url: str,
    mail_from: str,
    message_id: str,
    sent_at: datetime,
) -> EmailMessage:
    """Write the mail that tells a letter to a person. Raises Unaddressable."""
    page = layout.page(letter, company, tongue.of(to.language), console_url=console_url)
    preferences_url = _preferences_url(console_url, to)
    mail = EmailMessage(policy=_policy())
    mail["Subject"] = page.subject
    mail["From"] = sender(mail_from)
    mail["To"] = _recipient(to)
    mail["Date"] = format_datetime(sent_at)
    mail["Message-ID"] = message_id
    for name, value in _thread(letter.thread).items():
        mail[name] = value
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Auto-Response-Suppress"] = "All"  # Outlook's word for it
    mail["List-Id"] = _list_id(company, page.company, sender(mail_from).domain)
    if preferences_url:
        mail["List-Unsubscribe"] = f"<{preferences_url}/unsubscribe>"
        mail["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    said = {"page": page, "greeting": plain(to.name, _NAME_MAX), "preferences_url": preferences_url}
    _lay_out(mail, page.language, said)
    return mail


def _lay_out(mail: EmailMessage, language: str, said: Mapping[str, object]) -> None:
    templates = environment("services.notifier.mail", language)
    mail.set_content(templates.get_template("mail.txt").render(said), cte="quoted-printable")
    html = templates.get_template("mail.html").render(said)
    mail.add_alternative(html, subtype="html", cte="quoted-printable")


def _preferences_url(console_url: str, to: Recipient) -> str | None:
    token = to.preferences_token
    return f"{console_url.rstrip('/')}/preferences/{token}" if token else None


def _thread(thread: tuple[str, ...]) -> dict[str, str]:
    """Name the mails that this one follows (RFC 5322, 3.6.4)."""
    ancestors = [identity for identity in thread if _MESSAGE_ID.fullmatch(identity)]
    if not ancestors:
        return {}
    named = ancestors if len(ancestors) <= _REFERENCES else [ancestors[0], *ancestors[1 - _REFERENCES :]]
    return {"In-Reply-To": ancestors[-1], "References": " ".join(named)}


def _list_id(company: Company, name: str, domain: str) -> str:
    """Name the company's mails, so that a mail program can sort them (RFC 2919)."""
    label = re.sub(r"[^a-z0-9-]+", "-", company.company_id.lower()).strip("-") or "company"
    said = (
        f'"{quote(name)}"'
        if name.isascii() and _ENCODED not in name
        else " ".join(Header(name, "utf-8").encode().split())
    )
    return f"{said} <{label}.reconcal.{domain}>"


def _recipient(to: Recipient) -> Address:
    try:
        return _address(plain(to.name, _NAME_MAX).replace(_ENCODED, "= ?"), to.address)
    except ValueError as error:
        raise Unaddressable(f"not an address: {error}") from error


def _address(name: str, address: str) -> Address:
    """Build an address; a domain with letters beyond ASCII is written the way that mail servers read it."""
    local, _, domain = address.rpartition("@")
    if not local or not domain or not local.isascii() or any(c.isspace() or not c.isprintable() for c in address):
        raise ValueError(f"{plain(address)!r}")
    try:
        return Address(display_name=name, username=local, domain=domain.encode("idna").decode("ascii"))
    except UnicodeError as error:
        raise ValueError(f"{plain(address)!r}") from error


class _AsItIs:
    """A header of ours that is ASCII already: folded at its blanks alone, for encoded a machine would not find it."""

    max_count = 1

    @classmethod
    def parse(cls, value: str, kwds: dict[str, Any]) -> None:
        """See email.headerregistry: what a header's class has to have."""
        kwds["decoded"], kwds["parse_tree"] = value, None

    def fold(self, *, policy: "EmailPolicy[EmailMessage]") -> str:
        """Write the header."""
        name: str = self.name  # type: ignore[attr-defined] # of BaseHeader, which is mixed in
        return policy.linesep.join(self._lines(name)) + policy.linesep

    def _lines(self, name: str) -> list[str]:
        return wrap(
            str(self), _WIDTH, initial_indent=f"{name}: ", subsequent_indent=" ", break_long_words=False,
            break_on_hyphens=False,
        )  # fmt: skip


class _Words(_AsItIs):
    """Text for people. The library's own folding loses or doubles blanks before letters beyond ASCII."""

    def _lines(self, name: str) -> list[str]:
        if str(self).isascii() and _ENCODED not in str(self):
            return super()._lines(name)
        return f"{name}: {Header(str(self), 'utf-8', maxlinelen=_WIDTH, header_name=name).encode()}".split("\n")


class _Headers(HeaderRegistry):
    def __init__(self) -> None:
        super().__init__()
        self.map_to_type("subject", _Words)  # type: ignore[arg-type] # the stub wants what is mixed in only later
        for name in ("message-id", "in-reply-to", "references", "list-id", "list-unsubscribe", "list-unsubscribe-post"):
            self.map_to_type(name, _AsItIs)  # type: ignore[arg-type] # likewise


@cache
def _policy() -> "EmailPolicy[EmailMessage]":
    return EmailPolicy(linesep="\r\n", header_factory=_Headers())
