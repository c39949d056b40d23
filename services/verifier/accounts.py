"""The companies' accounts at Cal.com, from the register: always those of its last snapshot."""

import hashlib
from collections.abc import Iterator

from services.companies.model import Company, Purpose
from services.companies.register import Register
from services.plumbing.clock import Clock
from services.verifier.ports import Account


def budget_of(base_url: str, api_key: str) -> str:
    """Give the name of what is shared by all who ask at this address with this key; tells neither."""
    return hashlib.sha256(f"{base_url}\0{api_key}".encode()).hexdigest()[:32]


class Accounts:
    """Companies with an API key that counts. The register must open `Purpose.CALCOM_API_KEY`."""

    def __init__(self, register: Register, clock: Clock) -> None:
        """Whoever owns the register follows its changes."""
        self._register, self._clock = register, clock

    def of(self, company_id: str) -> Account | None:
        """Give a company's account; None: no such company, or none of its keys counts or can be read."""
        company = self._register.company(company_id)
        return None if company is None else self._account(company)

    def all(self) -> Iterator[Account]:
        """Give every account, by company id."""
        accounts = (self._account(company) for company in self._register.companies.values())
        return (account for account in accounts if account is not None)

    def _account(self, company: Company) -> Account | None:
        keys = self._register.secrets(company.company_id, Purpose.CALCOM_API_KEY, self._clock.now())
        if not keys:
            return None
        base_url, newest = company.calcom_base_url, keys[0].decode()
        return Account(
            company_id=company.company_id,
            base_url=base_url,
            api_key=newest,
            budget_id=budget_of(base_url, newest),
        )
