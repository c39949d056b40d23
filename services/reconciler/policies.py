"""The rules of companies, as the core wants them, from the register."""

from collections.abc import Collection

from services.companies.model import Company, Purpose
from services.companies.register import Register
from services.plumbing.clock import Clock
from services.plumbing.postgres import Pool
from services.reconciler.core.policy import Policy


def policy_of(company: Company, *, verify: bool = False) -> Policy:
    """Give a company's rules. `verify`: its API key is there."""
    loading = company.app_loaded_at is None or company.calcom_loaded_at is None
    return Policy(
        window_seconds=company.window_seconds,
        settling_window_seconds=company.settling_window_seconds,
        unconfirmed_window_seconds=company.unconfirmed_window_seconds,
        unconfirmed=company.unconfirmed_policy,
        unpaid_window_seconds=company.unpaid_window_seconds,
        unpaid=company.unpaid_policy,
        compared=company.compared_fields,
        match_by_attendee=company.match_by_attendee,
        country=company.country,
        verify=verify,
        verification_wait_seconds=company.verification_wait_seconds,
        history_began_at=company.history_began_at if loading else None,
    )


class RegisterPolicies:
    """The companies' rules, from the register; made once a company and snapshot."""

    def __init__(self, register: Register, pool: Pool, clock: Clock) -> None:
        """The pool stays its owner's."""
        self._register, self._pool, self._clock = register, pool, clock
        self._seen, self._generation = register.companies, 0
        self._made: dict[str, Policy] = {}

    @property
    def generation(self) -> int:
        """See `ports.Policies`: it moves with every snapshot of the register."""
        if self._register.companies is not self._seen:
            self._seen, self._made = self._register.companies, {}
            self._generation += 1
        return self._generation

    def companies(self) -> Collection[str]:
        """See `ports.Policies`."""
        return self._register.companies.keys()

    def get(self, company_id: str) -> Policy | None:
        """See `ports.Policies`."""
        if self._register.companies is not self._seen:
            _ = self.generation
        known = self._made.get(company_id)
        if known is None:
            company = self._register.company(company_id)
            if company is None:
                return None
            verify = self._register.holds(company_id, Purpose.CALCOM_API_KEY, self._clock.now())
            known = self._made[company_id] = policy_of(company, verify=verify)
        return known

    async def refresh(self) -> None:
        """See `ports.Policies`."""
        await self._register.refresh(self._pool)
