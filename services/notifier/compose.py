"""A flag as a mail: pure, the date handed in."""

from datetime import datetime
from email.headerregistry import Address, HeaderRegistry, MessageIDHeader
from email.message import EmailMessage
from email.policy import EmailPolicy
from email.utils import format_datetime, parseaddr
from functools import cache
from uuid import UUID

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from schemas.flags import Flag
from services.notifier.story import Company, Contact, tell
from services.notifier.words import plain


class Unaddressable(Exception):  # noqa: N818 - says what the address is
    """No mail can be sent to this address."""


def message_id(flag_id: UUID, contact_id: UUID, mail_from: str) -> str:
    """Give the Message-ID of the mail about a flag to a person: always the same one."""
    return f"<{flag_id}.{contact_id}@{sender(mail_from).domain}>"


def sender(mail_from: str) -> Address:
    """Read `Name <address>`. Raises ValueError if that is no address with a domain."""
    name, address = parseaddr(mail_from)
    if not address.rpartition("@")[0] or not address.rpartition("@")[2]:
        raise ValueError(f"{mail_from!r} is not an address: `Name <name@domain>` is wanted")
    return _address(name, address)


def compose(
    flag: Flag,
    company: Company,
    contact: Contact,
    *,
    console_url: str,
    mail_from: str,
    sent_at: datetime,
    identity: str | None = None,
    replies_to: str | None = None,
) -> EmailMessage:
    """Write the mail about a flag to one person. Raises Unaddressable.

    `identity` is its Message-ID (by default made from flag and person); `replies_to` that of the mail whose thread
    it belongs to. A mail in a thread keeps the subject and says `Re:`: that is how every mail program threads.
    """
    story = tell(flag, company, console_url=console_url)
    mail = EmailMessage(policy=_policy())
    mail["Subject"] = f"Re: {story.subject}" if replies_to else story.subject
    mail["From"] = sender(mail_from)
    mail["To"] = _recipient(contact)
    mail["Date"] = format_datetime(sent_at)
    mail["Message-ID"] = identity or message_id(flag.id, contact.contact_id, mail_from)
    mail["Auto-Submitted"] = "auto-generated"
    if replies_to:
        mail["In-Reply-To"] = replies_to
        mail["References"] = replies_to
    said = {"story": story, "greeting": plain(contact.name, 120)}
    mail.set_content(_templates().get_template("mail.txt").render(said), cte="quoted-printable")
    mail.add_alternative(_templates().get_template("mail.html").render(said), subtype="html", cte="quoted-printable")
    return mail


def _recipient(contact: Contact) -> Address:
    try:
        return _address(plain(contact.name, 120), contact.email)
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


class _Headers(HeaderRegistry):
    """Knows that these headers hold Message-IDs: as free text, long ones would be encoded and no longer match."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("in-reply-to", "references"):
            self.map_to_type(name, MessageIDHeader)  # type: ignore[arg-type] # the stub wants what is mixed in only later


@cache
def _policy() -> "EmailPolicy[EmailMessage]":
    return EmailPolicy(linesep="\r\n", header_factory=_Headers())


@cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("services.notifier"),
        autoescape=select_autoescape(("html",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
