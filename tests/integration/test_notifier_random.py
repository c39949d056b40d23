"""A notifier's life as chance has it: flags, senders that die or sleep, a moody mail server, people who change.

    python -m tests.integration.test_notifier_random --seeds 200
    python -m tests.integration.test_notifier_random --seed 7

At the end all heals and time passes; then everybody was told of everything that they should know, once.
"""

import argparse
import asyncio
import re
import sys
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, time, timedelta
from random import Random
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
import msgspec
import pytest
from msgspec.structs import replace

from schemas.flags import RECORD_KINDS, Flag, FlagType, Kind
from services.embedded.database import EmbeddedDatabase
from services.notifier.grouping import held_by
from services.notifier.letter import Letter, Occasion
from services.notifier.mail.smtp import Postman
from services.notifier.turns import LOOK_WITHIN
from services.plumbing.migrate import migrate
from services.plumbing.postgres import BEFORE_ALL, FOREVER
from tests.sim.world import quiet
from tests.support.hand_clock import HandClock
from tests.support.notifying import NOW, Killed, Mortal, Notifier, Sleeper, a_flag, of_company, resolving
from tests.support.post_office import CUT, Order, PostOffice, Step

SEEDS: Final = 6
STEPS: Final = 70
COMPANIES: Final = ("praxis", "kanzlei")
CAUSES: Final = (Kind.WEBHOOK_SILENT, Kind.CALCOM_INCIDENT)
COMPANYS_OWN: Final = (*CAUSES, Kind.ORPHANS_A_DAY, Kind.SYNC_SUCCESS)
TYPES: Final = {
    Kind.ORPHANED_LOCAL: FlagType.ORPHANED_LOCAL,
    Kind.ORPHANED_CALCOM: FlagType.ORPHANED_CALCOM,
    Kind.DATA_MISMATCH: FlagType.DATA_MISMATCH,
    Kind.VERIFICATION_ERROR: FlagType.VERIFICATION_ERROR,
    Kind.AMBIGUOUS_MATCH: FlagType.AMBIGUOUS,
}
#: What the server does once, at the next mail that comes so far.
MOODS: Final[tuple[tuple[Step, Order], ...]] = (
    (Step.RCPT, "451 try later"),
    (Step.BODY, "452 mailbox full"),
    (Step.DATA, "450 busy"),
    (Step.MAIL, "451 quota"),
    (Step.MAIL, CUT),
    (Step.BODY, CUT),
    (Step.BODY, "421 closing"),
    (Step.KEPT, CUT),
    (Step.KEPT, CUT),
    (Step.KEPT, "421 closing"),
)
REFUSAL: Final = (Step.RCPT, "550 no such user")
#: Until everything that waits was told, the digests of a day too.
AFTERWARDS: Final = timedelta(hours=26)
#: Longer than any interval that a company has.
SOON: Final = timedelta(minutes=11)
_NUMBER: Final = re.compile(r"#(\d+)")

_GIVEN_UP: Final = "SELECT state = 'expired' FROM letters WHERE message_id = $1"
_LETTERS: Final = """
SELECT company_id, recipient_id, number, message_id, state, urgent, content, told, ended, attempts
FROM letters ORDER BY company_id, recipient_id, number"""
_UNTOLD: Final = """
SELECT a.company_id, a.flag_id, a.kind, a.verified FROM alerts a
WHERE a.company_id = $1 AND a.resolved_at IS NULL AND a.kind <> ALL($3::text[])
  AND NOT EXISTS (SELECT FROM tellings t WHERE t.recipient_id = $2 AND t.flag_id = a.flag_id)"""
_END_UNTOLD: Final = """
SELECT t.flag_id FROM tellings t JOIN alerts a USING (company_id, flag_id)
WHERE t.recipient_id = $1 AND t.ended_in IS NULL AND a.resolved_at IS NOT NULL"""
_LATE: Final = """
SELECT k.email FROM contacts k JOIN alerts a USING (company_id)
WHERE a.flag_id = ANY($2::uuid[]) AND k.delivery = 'immediate' AND k.role <> 'viewer' AND $1 <> ALL(k.muted_kinds)
  AND NOT EXISTS (SELECT FROM tellings t WHERE t.recipient_id = k.contact_id AND t.flag_id = a.flag_id)"""
_STUCK: Final = """
SELECT n.*, l.state FROM notify_turns n
LEFT JOIN letters l ON l.company_id = n.company_id AND l.recipient_id = n.recipient_id AND l.number > n.number
WHERE n.leased_until IS NOT NULL OR n.due_at <= $1 OR n.not_before > $1 OR n.attempts > 0 OR l.number IS NOT NULL
  OR n.failing_since IS NOT NULL OR (n.due_at > $2 AND n.due_at < 'infinity')
  OR NOT EXISTS (SELECT FROM contacts k WHERE k.contact_id = n.recipient_id)
  OR (n.due_at = 'infinity' AND EXISTS (SELECT FROM contacts k WHERE k.contact_id = n.recipient_id
    AND k.delivery <> 'none' AND k.role <> 'viewer'))"""


class Life:
    """Two companies with their people, and what befalls them."""

    def __init__(self, notifier: Notifier, random: Random) -> None:
        self.notifier, self.random = notifier, random
        self.flags: dict[UUID, Flag] = {}
        self.open: list[Flag] = []
        self.number = 0
        self.addresses: dict[str, UUID] = {}
        self.companies: dict[UUID, str] = {}
        self.fickle: set[UUID] = set()  # whose wishes have changed, or are not known any more
        self.postmen = [Postman(notifier.settings) for _ in range(4)]
        self.dozing: list[tuple[asyncio.Task[bool], Sleeper]] = []
        self.overtaken: set[str] = set()  # letters that were given up while whoever had one slept
        self.removed: set[str] = set()
        self.away = False  # the mail server
        self.stepped_back = timedelta(0)
        self.interval = timedelta(minutes=5)  # the shortest that there was
        self.story: list[str] = []

    @property
    def now(self) -> datetime:
        return self.notifier.clock.at

    async def begin(self) -> None:
        for company in COMPANIES:
            await self.notifier.company(company)
            await self.hire(company, delivery="immediate", muted_kinds=[])
            for _ in range(3):
                await self.hire(company)

    async def live(self, steps: int) -> None:
        deeds: dict[Callable[[], Awaitable[None]], int] = {
            self.raise_some: 12, self.resolve_some: 5, self.raise_of_company: 3, self.repeat: 1, self.resolve_first: 1,
            self.send: 8, self.die: 10, self.doze: 4, self.wake: 4, self.at_once: 6,
            self.be_moody: 12, self.go_away: 1, self.come_back: 3,
            self.wait: 6, self.wait_until_due: 16, self.step_back: 1,
            self.change_a_wish: 4, self.move: 1, self.fire: 1, self.hire_one: 1, self.change_figures: 1, self.close: 1,
        }  # fmt: skip
        for deed in self.random.choices([*deeds], weights=[*deeds.values()], k=steps):
            self.notifier.clock.at += timedelta(seconds=self.random.expovariate(0.1))
            self.story.append(f"{self.now - NOW} {deed.__name__}")
            await deed()

    # --- flags ---

    def new_flag(self, company: str) -> Flag:
        self.number += 1
        soon = self.random.random() < 0.3
        hours = (self.now - NOW) / timedelta(hours=1) + (
            self.random.uniform(-0.5, 2.5) if soon else self.random.uniform(-3, 90)
        )
        kind = self.random.choice(RECORD_KINDS)
        verdict = self.random.choice(["absent", "not_verified"])
        flag = a_flag(company, self.number, in_hours=hours, kind=kind, type=TYPES[kind], verdict=verdict)
        if self.random.random() < 0.1:
            assert flag.appointment is not None
            edge = self.random.choice([BEFORE_ALL, FOREVER, datetime(9999, 12, 31, 23, tzinfo=UTC)])
            flag = replace(flag, appointment=replace(flag.appointment, starts_at=edge))
        return flag

    async def raise_some(self) -> None:
        company = self.random.choice(COMPANIES)
        count = 30 if self.random.random() < 0.1 else self.random.randint(1, 4)
        await self.take_in(*(self.new_flag(company) for _ in range(count)))

    async def raise_of_company(self) -> None:
        company, kind = self.random.choice(COMPANIES), self.random.choice(COMPANYS_OWN)
        if not any(flag.company_id == company and flag.kind is kind for flag in self.open):
            await self.take_in(of_company(kind, company))

    async def resolve_some(self) -> None:
        some = self.random.sample(self.open, min(len(self.open), self.random.randint(1, 5)))
        await self.take_in(*(resolving(flag) for flag in some))

    async def resolve_first(self) -> None:
        flag = self.new_flag(self.random.choice(COMPANIES))
        batches = [[resolving(flag)], [flag]] if self.random.random() < 0.5 else [[resolving(flag), flag]]
        for batch in batches:
            await self.notifier.take_in(*batch)

    async def repeat(self) -> None:
        if self.flags:
            await self.notifier.take_in(*self.random.sample([*self.flags.values()], min(len(self.flags), 4)))

    async def take_in(self, *flags: Flag) -> None:
        for flag in flags:
            self.flags[flag.id] = flag
        ended = {flag.resolves for flag in flags}
        self.open = [flag for flag in (*self.open, *flags) if flag.id not in ended and flag.resolves is None]
        if flags:
            await self.notifier.take_in(*flags)

    # --- senders ---

    async def send(self) -> None:
        """Send all that is due, at most so much as a while allows, together with others."""
        await asyncio.gather(*(self.send_some(postman) for postman in self.postmen[: self.random.randint(1, 3)]))

    async def send_some(self, postman: Postman) -> None:
        sender = self.notifier.another(postman)
        for _ in range(20):
            if not await sender.send_one() or sender.away_seconds:
                break

    async def die(self) -> None:
        """Be killed at any word to the database; with the mail kept by the server, or not."""
        postman = Postman(self.notifier.settings)
        sender = self.notifier.another(postman, Mortal(self.notifier.pool, self.random.randint(0, 26)))
        with suppress(Killed):
            while await sender.send_one() and not sender.away_seconds:
                pass
        await postman.close()

    async def doze(self) -> None:
        """Take a letter and sleep, before it is handed over or after."""
        courier = self.notifier.courier(Postman(self.notifier.settings))
        sleeper = Sleeper(courier, before=self.random.random() < 0.5)
        task = asyncio.create_task(self.notifier.another(sleeper).send_one())
        asleep = asyncio.create_task(sleeper.asleep.wait())
        await asyncio.wait([task, asleep], return_when=asyncio.FIRST_COMPLETED)
        asleep.cancel()
        self.dozing.append((task, sleeper))

    async def wake(self) -> None:
        if self.dozing:
            task, sleeper = self.dozing.pop(self.random.randrange(len(self.dozing)))
            if sleeper.leased is not None:
                name = sleeper.leased.message_id
                if await self.notifier.pool.fetchval(_GIVEN_UP, name):
                    self.overtaken.add(name)
            sleeper.woken.set()
            await task
            await sleeper.rest()

    async def at_once(self) -> None:
        """Several things between each other's statements."""
        deeds = (self.raise_some, self.resolve_some, self.die, self.change_a_wish, self.raise_of_company)
        await asyncio.gather(self.send(), *(deed() for deed in self.random.sample(deeds, 2)))

    # --- the mail server ---

    async def be_moody(self) -> None:
        step, order = REFUSAL if self.random.random() < 0.1 else self.random.choice(MOODS)
        self.notifier.office.tell(step, order)

    async def go_away(self) -> None:
        if not self.away:
            self.away = True
            await self.notifier.office.stop()

    async def come_back(self) -> None:
        if self.away:
            self.away = False
            await self.notifier.office.start()

    # --- time ---

    async def wait(self) -> None:
        self.notifier.clock.at += timedelta(seconds=self.random.choice([0.5, 2.0, 30.0, 100.0, 300.0, 4000.0]))

    async def wait_until_due(self) -> None:
        due = await self.notifier.turns.next_due()
        if due is not None and due < self.now + timedelta(days=1):
            self.notifier.clock.at = max(due, self.now)
        await self.send()

    async def step_back(self) -> None:
        by = timedelta(seconds=self.random.choice([0.3, 5.0, 20.0]))
        self.notifier.clock.at -= by
        self.stepped_back += by

    # --- people ---

    async def hire(self, company: str, **columns: Any) -> None:
        person = f"p{len(self.addresses)}"
        wishes = self.wishes() | columns
        role = self.random.choice(["admin", "manager"])
        contact_id = await self.notifier.hire(person, role, company, **wishes)
        self.addresses[f"{person}@example.com"], self.companies[contact_id] = contact_id, company

    def wishes(self) -> dict[str, Any]:
        return {
            "delivery": self.random.choices(["immediate", "daily", "none"], [7, 2, 1])[0],
            "daily_at": time(self.random.randrange(24), self.random.choice([0, 30])),
            "muted_kinds": self.random.sample([*RECORD_KINDS, *COMPANYS_OWN], self.random.choice([0, 0, 1, 3])),
            "language": self.random.choice(["de", "en"]),
        }

    async def hire_one(self) -> None:
        await self.hire(self.random.choice(COMPANIES))

    async def fire(self) -> None:
        contact_id = self.anybody()
        self.fickle.add(contact_id)
        await self.notifier.pool.execute("DELETE FROM contacts WHERE contact_id = $1", contact_id)

    async def change_a_wish(self) -> None:
        contact_id = self.anybody()
        self.fickle.add(contact_id)
        name, value = self.random.choice(
            [*self.wishes().items(), ("role", "viewer"), ("role", "admin"), ("name", "Eve")]
        )
        await self.notifier.pool.execute(f"UPDATE contacts SET {name} = $2 WHERE contact_id = $1", contact_id, value)

    async def move(self) -> None:
        contact_id, address = self.anybody(), f"m{len(self.addresses)}@example.com"
        self.addresses[address] = contact_id
        self.fickle.add(contact_id)
        await self.notifier.pool.execute("UPDATE contacts SET email = $2 WHERE contact_id = $1", contact_id, address)

    async def change_figures(self) -> None:
        seconds = self.random.choice([60.0, 300.0, 600.0])
        self.interval = min(self.interval, timedelta(seconds=seconds))
        company = self.random.choice(COMPANIES)
        change = "UPDATE companies SET group_interval_seconds = $2 WHERE company_id = $1"
        await self.notifier.pool.execute(change, company, seconds)

    async def close(self) -> None:
        """A company is removed, or is there again."""
        company = self.random.choice(COMPANIES)
        self.removed ^= {company}
        change = "UPDATE companies SET removed_at = CASE WHEN $2 THEN $3::timestamptz END WHERE company_id = $1"
        await self.notifier.pool.execute(change, company, company in self.removed, self.now)
        self.fickle |= {contact for contact, of in self.companies.items() if of == company}

    def anybody(self) -> UUID:
        return self.random.choice([*self.companies])

    # --- the end ---

    async def heal(self) -> None:
        """Whatever was wrong is mended; time passes until nothing waits any more."""
        while self.dozing:
            await self.wake()
        await self.come_back()
        await self.notifier.pool.execute("UPDATE companies SET removed_at = NULL")
        if self.random.random() < 0.5:
            await self.take_in(*(resolving(flag) for flag in self.open if flag.kind in CAUSES))
        await self.notifier.play(AFTERWARDS)
        while await self.notifier.pool.fetchval("SELECT count(*) FROM contacts WHERE suppressed_at IS NOT NULL"):
            await self.notifier.pool.execute("UPDATE contacts SET suppressed_at = NULL")
            await self.notifier.play(AFTERWARDS)
        for postman in self.postmen:
            await postman.close()

    async def last_word(self) -> None:
        """Something new is told soon, and not only when somebody happens to look."""
        assert SOON < LOOK_WITHIN
        kind, pool = Kind.DATA_MISMATCH, self.notifier.pool
        news = [a_flag(company, kind=kind, type=TYPES[kind]) for company in COMPANIES]
        await self.take_in(*news)
        await self.notifier.play(SOON)
        late = await pool.fetch(_LATE, kind.value, [flag.id for flag in news])
        assert not late, f"not told within {SOON}: {late}"


class Outcome:
    """What must hold in the end. Each method raises AssertionError with what does not."""

    def __init__(self, life: Life, letters: list[Any], alerts: list[Any], people: list[Any]) -> None:
        self.life, self.office = life, life.notifier.office
        self.muted = {row["contact_id"]: row["muted_kinds"] for row in people}
        self.letters = letters
        self.alerts = {row["flag_id"]: row for row in alerts}
        self.sent = [row for row in letters if row["state"] == "sent"]
        self.by_id = {row["message_id"]: row for row in letters}

    @classmethod
    async def of(cls, life: Life) -> "Outcome":
        pool = life.notifier.pool
        people = await pool.fetch("SELECT * FROM contacts")
        return cls(life, await pool.fetch(_LETTERS), await pool.fetch("SELECT * FROM alerts"), people)

    async def check(self) -> None:
        await self.everybody_knows()
        await self.nothing_is_stuck()
        self.one_id_one_text()
        self.once()
        self.nothing_that_was_over()
        self.nothing_that_was_held()
        self.intervals()
        self.only_their_own()

    async def everybody_knows(self) -> None:
        pool = self.life.notifier.pool
        for row in await pool.fetch("SELECT * FROM contacts WHERE delivery <> 'none' AND role <> 'viewer'"):
            company, muted = row["company_id"], row["muted_kinds"]
            open_ = {
                Kind(a["kind"]) for a in self.alerts.values() if a["company_id"] == company and not a["resolved_at"]
            }
            held = held_by(open_ - {Kind(kind) for kind in muted})
            untold = [
                dict(a) for a in await pool.fetch(_UNTOLD, company, row["contact_id"], muted)
                if a["kind"] not in held.kinds
                and not (held.unverified and not a["verified"] and a["kind"] in RECORD_KINDS)
            ]  # fmt: skip
            assert not untold, f"{row['email']} does not know of {untold}"
            ends = await pool.fetch(_END_UNTOLD, row["contact_id"])
            assert not ends, f"{row['email']} does not know of the end of {ends}"

    async def nothing_is_stuck(self) -> None:
        now = self.life.now
        stuck = await self.life.notifier.pool.fetch(_STUCK, now, now + LOOK_WITHIN + self.life.stepped_back)
        assert not stuck, f"stuck: {[dict(row) for row in stuck]}"

    def one_id_one_text(self) -> None:
        """What the server has is what was written; and all that is believed to be sent is there."""
        texts: dict[str, set[tuple[str, str]]] = defaultdict(set)
        for mail in self.office.mails:
            # To an address that is not theirs any more a letter goes out again without the key to their wishes.
            text = "\n".join(line for line in mail.text.splitlines() if "/preferences/" not in line).rstrip()
            texts[mail.message_id or ""].add((mail.subject, text))
        twice = [name for name, said in texts.items() if len(said) > 1]
        assert not twice, f"two mails under one Message-ID: {twice}"
        lost = {row["message_id"] for row in self.sent} - set(texts)
        assert not lost, f"believed to be sent: {lost}"
        unknown = set(texts) - set(self.by_id)
        assert not unknown, f"of no letter: {unknown}"
        assert not {row["message_id"] for row in self.letters if row["state"] in {"sending", "put_off"}}

    def once(self) -> None:
        """Each flag is told once, and its end once after it; a sleeper may tell what was told in its letter's place."""
        told: dict[tuple[UUID, UUID], int] = {}
        ended: set[tuple[UUID, UUID]] = set()
        for row in sorted(self.sent, key=lambda row: row["message_id"] in self.life.overtaken):
            for ref in ((row["recipient_id"], flag) for flag in row["told"]):
                fresh = ref not in told or row["message_id"] in self.life.overtaken
                assert fresh, f"{ref} is told twice, in {told[ref]} and {row['number']}"
                told.setdefault(ref, row["number"])
        for row in self.sent:
            for ref in ((row["recipient_id"], flag) for flag in row["ended"]):
                fresh = ref not in ended or row["message_id"] in self.life.overtaken
                assert fresh, f"the end of {ref} is told twice"
                assert told.get(ref, row["number"]) < row["number"], f"the end of {ref} is told, but not the flag"
                ended.add(ref)

    def nothing_that_was_over(self) -> None:
        for row in self.sent:
            written_at = _letter(row).written_at
            for alert in (self.alerts[flag] for flag in row["told"]):
                over = alert["resolved_at"] is not None and alert["resolved_at"] + self.life.stepped_back < written_at
                assert not over, f"{row['message_id']} tells of what was over: {dict(alert)}"

    def nothing_that_was_held(self) -> None:
        for row in (row for row in self.sent if row["recipient_id"] not in self.life.fickle):
            written_at = _letter(row).written_at
            causes = {
                Kind(alert["kind"]) for alert in self.alerts.values()
                if alert["company_id"] == row["company_id"] and alert["kind"] in CAUSES
                and alert["taken_at"] + self.life.stepped_back < written_at - self.life.stepped_back
                and (alert["resolved_at"] is None or alert["resolved_at"] > written_at + self.life.stepped_back)
                and alert["kind"] not in self.muted.get(row["recipient_id"], ())
            }  # fmt: skip
            held = held_by(causes).kinds
            told = [dict(self.alerts[flag]) for flag in row["told"] if self.alerts[flag]["kind"] in held]
            assert not told, f"{row['message_id']} tells of what {causes} explain: {told}"

    def intervals(self) -> None:
        """Letters to a person, by the moment at which each was first taken."""
        taken: dict[UUID, dict[str, datetime]] = defaultdict(dict)
        for mail in self.office.mails:
            row = self.by_id[mail.message_id or ""]
            taken[row["recipient_id"]].setdefault(row["message_id"], mail.received_at)
        least = self.life.interval - self.life.stepped_back
        for who, letters in taken.items():
            before = urgent_before = BEFORE_ALL
            for name, at in letters.items():
                if name in self.life.overtaken:  # it goes out whenever the sleeper wakes
                    continue
                row = self.by_id[name]
                gap = at - (urgent_before if row["urgent"] else before)
                daily = _letter(row).occasion is Occasion.DAILY  # goes by the clock
                assert daily or gap >= least, f"{who}: {name} comes {gap} after the last"
                if row["state"] == "sent":  # else it was in doubt until it was given up: nobody knows that it came
                    before, urgent_before = at, at if row["urgent"] else urgent_before

    def only_their_own(self) -> None:
        numbers = defaultdict(set)
        for flag in self.life.flags.values():
            if flag.appointment is not None:
                numbers[flag.company_id].add(flag.appointment.appointment_id)
        for mail in self.office.mails:
            company = self.life.companies[self.life.addresses[mail.to[0]]]
            assert set(_NUMBER.findall(mail.text)) <= numbers[company], f"{mail.to} is told of another company's"


def _letter(row: Any) -> Letter:
    return msgspec.json.decode(row["content"], type=Letter)


async def play(dsn: str, seed: int, *, steps: int = STEPS) -> str:
    """Live a life and hold it against what must hold; gives a line of figures. Raises AssertionError."""
    clock = HandClock(NOW)
    async with PostOffice(clock=clock) as office:
        notifier = await Notifier.open(dsn, office, clock)
        life = Life(notifier, Random(seed))
        try:
            await life.begin()
            await life.live(steps)
            await life.heal()
            outcome = await Outcome.of(life)
            await outcome.check()
            await life.last_word()
        except BaseException as error:
            error.add_note(f"seed {seed}:\n" + "\n".join(life.story))
            raise
        finally:
            for task, _ in life.dozing:
                task.cancel()
            await notifier.close()
        again = len(office.mails) - len(set(office.message_ids()))
        return f"seed {seed}: {len(life.flags)} flags, {len(outcome.letters)} letters, {again} mails came again"


@pytest.mark.parametrize("seed", range(1, SEEDS + 1))
async def test_whatever_befalls_everybody_is_told_of_everything_once(dsn: str, seed: int) -> None:
    await play(dsn, seed)


async def run(first: int, seeds: int, steps: int) -> int:
    """Live many lives, each on a database of its own; 1 if one did not come out as it must."""
    failed = []
    async with EmbeddedDatabase() as database:
        connection = await asyncpg.connect(database.dsn)
        for seed in range(first, first + seeds):
            await connection.execute(f"CREATE DATABASE life_{seed}")
            dsn = urlsplit(database.dsn)._replace(path=f"/life_{seed}").geturl()
            await migrate(dsn)
            try:
                line = await play(dsn, seed, steps=steps)
            except Exception as error:  # noqa: BLE001 - the others are lived all the same
                failed.append(seed)
                line = "\n".join([f"seed {seed} FAILED: {type(error).__name__}: {error}", *error.__notes__])
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
            await connection.execute(f"DROP DATABASE life_{seed} WITH (FORCE)")
        await connection.close()
    sys.stdout.write(f"{seeds} seeds from {first} on: {f'{failed} did not hold' if failed else 'all held'}\n")
    return 1 if failed else 0


def main(arguments: list[str]) -> int:
    quiet()
    parser = argparse.ArgumentParser(description="A notifier's life as chance has it")
    parser.add_argument("--seed", type=int, default=1, help="the first one")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=STEPS)
    given = parser.parse_args(arguments)
    return asyncio.run(run(given.seed, given.seeds, given.steps))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
