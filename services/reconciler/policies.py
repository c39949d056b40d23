"""The rules of companies, as the core wants them, from the register."""

from collections.abc import Collection

from services.companies.model import Company
from services.companies.register import Register
from services.plumbing.postgres import Pool
from services.reconciler.core.policy import Policy


def policy_of(company: Company) -> Policy:
    """Give a company's rules."""
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
    )


class RegisterPolicies:
    """The companies' rules, from the register; made once a company and snapshot."""

    def __init__(self, register: Register, pool: Pool) -> None:
        """The pool stays its owner's."""
        self._register, self._pool = register, pool
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
            known = self._made[company_id] = policy_of(company)
        return known

    async def refresh(self) -> None:
        """See `ports.Policies`."""
        await self._register.refresh(self._pool)
