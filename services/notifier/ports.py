"""What stands between the loop that sends and the servers that take: each has one implementation; tests have theirs."""

from email.message import EmailMessage
from enum import StrEnum
from typing import Final, Protocol

from msgspec import Struct


class Fate(StrEnum):
    """What becomes of a letter that was not taken."""

    REFUSED = "refused"  # it will never be taken for this address
    LATER = "later"  # not now
    AWAY = "away"  # nothing at all can be sent now, to nobody


class TroubleKind(StrEnum):
    """What somebody has to mend before letters go out; `incidents.kind`."""

    SMTP_UNREACHABLE = "smtp_unreachable"  # a wrong host or port, a server that is away
    SMTP_TLS = "smtp_tls"  # no TLS where we want it, a certificate that is not trusted
    SMTP_AUTH = "smtp_auth"  # user or password refused, or wanted
    SMTP_SENDER = "smtp_sender"  # RECONCAL_MAIL_FROM is refused
    SMTP_PUTS_OFF = "smtp_puts_off"  # 4xx again and again
    ADDRESS_REFUSED = "address_refused"  # of a contact; the detail names it
    ENDPOINT = "endpoint"  # of a company's webhook; the detail names its host


#: Of the mail server: everybody's.
SMTP: Final = (
    TroubleKind.SMTP_UNREACHABLE,
    TroubleKind.SMTP_TLS,
    TroubleKind.SMTP_AUTH,
    TroubleKind.SMTP_SENDER,
    TroubleKind.SMTP_PUTS_OFF,
)


class Trouble(Struct, frozen=True):
    """What to tell whoever can mend it: sentences without secrets that say what to do."""

    kind: TroubleKind
    detail: str


class Undelivered(Exception):  # noqa: N818 - says what the letter is
    """A letter was not taken.

    `reason`: the server's answer, or what failed, in one harmless line. `in_doubt`: the server may have it after all
    (cut or silent after the last byte), so that it has to go out again as it is. `trouble`: what somebody has to
    mend; None where nobody has.
    """

    def __init__(self, fate: Fate, reason: str, *, in_doubt: bool = False, trouble: Trouble | None = None) -> None:
        """Keep the decision with the error."""
        super().__init__(reason)
        self.fate, self.reason, self.in_doubt, self.trouble = fate, reason, in_doubt, trouble


class Postman(Protocol):
    """Hands mails to a server, over one connection that it keeps for a while."""

    async def send(self, mail: EmailMessage) -> str:
        """Hand over one mail to its one recipient; gives the server's answer. Raises Undelivered; bounded in time."""

    async def close(self) -> None:
        """Say goodbye, within a second."""


class Poster(Protocol):
    """Hands grouped letters to an endpoint of format slack."""

    async def post(self, company_id: str, endpoint_id: str, body: bytes) -> str:
        """Post one JSON body; gives what was answered. Raises Undelivered; bounded in time."""


class Troubles(Protocol):
    """Keeps what is wrong until it is over; said in the log once an episode. Errors of the database go up."""

    async def seen(self, company_id: str, trouble: Trouble) -> None:
        """Note trouble; `company_id` is empty for what is every company's (the mail server)."""

    async def over(self, company_id: str, *kinds: TroubleKind) -> None:
        """Note that trouble of these kinds is over; cheap where there was none."""
