"""A company's rules, as data."""

from datetime import datetime

from msgspec import Struct

from schemas.rules import COMPARED, Waiting


class Policy(Struct, frozen=True, kw_only=True):
    """How long a side may be alone, and what counts as equal."""

    window_seconds: float = 300.0
    #: How long two known sides may differ; None: the window. A move reaches the two sides seconds apart.
    settling_window_seconds: float | None = None
    #: For bookings that wait for the host's word, or for another time that the host asked for: people take their time.
    unconfirmed_window_seconds: float = 86_400.0
    unconfirmed: Waiting = Waiting.FLAG
    #: For bookings that wait for their payment. One that is never paid is silently dropped by Cal.com.
    unpaid_window_seconds: float = 86_400.0
    unpaid: Waiting = Waiting.IGNORE
    #: Starts and ends that lie this close are equal.
    tolerance_seconds: float = 60.0
    #: The fields that count; whether a side is there at all always does.
    compared: tuple[str, ...] = COMPARED
    #: The ladder's third rung: the same start and the same attendee's e-mail or phone.
    match_by_attendee: bool = True
    #: Where phone numbers without a country are at home (ISO 3166, two letters).
    country: str = "DE"
    #: Whether Cal.com's API can be asked before a flag is raised; and how long a record waits for it at most.
    verify: bool = False
    verification_wait_seconds: float = 14_400.0
    #: What is older than this is indeterminate while the past of both sides is being loaded; None: it is not.
    history_began_at: datetime | None = None
