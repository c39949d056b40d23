"""A company's rules, as data."""

from msgspec import Struct


class Policy(Struct, frozen=True, kw_only=True):
    """How long a side may be alone, and what counts as equal."""

    window_seconds: float = 300.0
    #: For bookings that wait for the host's confirmation or a payment: people take their time.
    unconfirmed_window_seconds: float = 86_400.0
    #: Starts and ends that lie this close are equal.
    tolerance_seconds: float = 60.0
