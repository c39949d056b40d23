"""The worker's figures."""

from msgspec import Struct


class Limits(Struct, frozen=True, kw_only=True):
    """See the settings of the same names."""

    batch_max_records: int = 1000
    probe_interval_seconds: float = 2.0
    stall_after_seconds: float = 5.0
    stall_grace_seconds: float = 30.0
    brake_run: int = 100
    brake_share: float = 0.5
    brake_of: int = 500
