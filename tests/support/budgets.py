"""Budgets and incidents in memory: the same decisions, on any clock."""

from msgspec.structs import replace

from schemas.verification import Priority
from services.plumbing.clock import Clock
from services.verifier.answers import Answer
from services.verifier.gate import budget as machine
from services.verifier.gate.budget import Budget, Grant, Lesson, Limits
from services.verifier.gate.incidents import Kind, Trouble
from services.verifier.ports import NotNow


class MemoryBudgets:
    """See `gateway.Budgets`; one process's."""

    def __init__(self, clock: Clock, limits: Limits | None = None) -> None:
        """120 a minute, unless said otherwise."""
        self.clock, self.limits = clock, limits or Limits.of(120)
        self.kept: dict[str, Budget] = {}

    def of(self, budget_id: str) -> Budget:
        """Give a key's budget."""
        return self.kept.get(budget_id) or machine.fresh(self.limits, self.clock.now())

    async def take(self, budget_id: str, priority: Priority) -> Grant | NotNow:
        """See `gateway.Budgets`."""
        self.kept[budget_id], word = machine.take(self.of(budget_id), priority, self.limits, self.clock.now())
        return word

    async def learn(self, budget_id: str, grant: Grant, answer: Answer) -> Lesson:
        """See `gateway.Budgets`."""
        lesson = machine.learn(self.of(budget_id), grant, answer, self.limits, self.clock.now())
        self.kept[budget_id] = lesson.budget
        return lesson

    def drain(self, budget_id: str) -> None:
        """Let nothing be left for now."""
        self.kept[budget_id] = replace(self.of(budget_id), tokens=0.0)


class MemoryIncidents:
    """See `gateway.Incidents`."""

    def __init__(self) -> None:
        """None."""
        self.open: dict[tuple[str, Kind], str] = {}

    async def seen(self, company_id: str, trouble: Trouble) -> None:
        """See `gateway.Incidents`."""
        self.open[company_id, trouble.kind] = trouble.detail

    async def heard(self, company_id: str, trouble: Trouble) -> None:
        """See `gateway.Incidents`."""
        if not any(company == company_id for company, _ in self.open):
            self.open[company_id, trouble.kind] = trouble.detail

    async def over(self, company_id: str) -> None:
        """See `gateway.Incidents`; whatever it was."""
        self.open = {key: detail for key, detail in self.open.items() if key[0] != company_id}
