"""A notifier is killed at random moments, again and again, before a mail server that has its moods.

    python -m tests.faults.mailing --rounds 100
    python -m tests.faults.mailing --rounds 20 --seed 7

The server takes its time, before it keeps a mail and before it says so; now and then it keeps one and cuts the
connection, or puts off. A third of the notifiers is killed when the server has a mail and has not said so, a third
while one is under way, the others at any moment. Now and then one is paused instead, and wakes past its lease.
Stands up Apache Kafka and PostgreSQL of its own; prints a line of figures, exits 1 with what did not hold.
"""

import argparse
import asyncio
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Final
from uuid import uuid4

import msgspec
from msgspec import Struct

from schemas.envelope import Delivery
from schemas.flags import Flag
from schemas.topics import SYNC_FLAGS
from services.notifier.letter import ROWS
from tests.faults.scene import Scene, alone
from tests.sim.world import quiet
from tests.support.notifying import NOW, a_flag, resolving
from tests.support.post_office import CUT, Order, PostOffice, Step
from tests.support.processes import Service
from tests.support.wait import moment, until

COMPANY: Final = "praxis"
#: A letter that a killed process had in hand waits for its lease, 13 s: there is always another one to be killed at.
PEOPLE: Final = ("mia", "max", "moe", "tom", "tim", "tea", "ann", "ben", "eva")
SMTP_TIMEOUT_SECONDS: Final = 1.0
#: Of the server, before it keeps a mail and before it says so. Together more than it is waited for, now and then.
SLOW_SECONDS: Final = (0.3, 0.8)
#: From the start of a process to its end; some are killed before they do anything.
LIVES_SECONDS: Final = (0.8, 3.0)
#: For a mail to be where its notifier is to be killed.
PATIENCE_SECONDS: Final = 10.0
#: Of ten notifiers so many are paused instead of killed, and go on so many rounds later.
PAUSED_IN_TEN: Final = 2
ASLEEP_ROUNDS: Final = 8
#: So many rounds of ten are of a server that is merely slow; in the others it does one of these all the time.
CALM_IN_TEN: Final = 7
MOODS: Final[tuple[Mapping[Step, Order], ...]] = (
    {Step.KEPT: CUT},
    {Step.MAIL: "451 4.3.0 not at the moment"},
    {Step.RCPT: "450 4.2.0 greylisted"},
    {Step.BODY: "452 4.2.2 no room"},
)

_NUMBER: Final = re.compile(r"#(\d+)")
#: Counts, without a join that would take its time in a storm.
_LEFT: Final = """
SELECT (SELECT sum(n * (SELECT count(*) FROM contacts k WHERE k.company_id = o.company_id))
    FROM (SELECT company_id, count(*) AS n FROM alerts WHERE resolved_at IS NULL GROUP BY company_id) AS o)
  - (SELECT count(*) FROM tellings WHERE ended_in IS NULL)
  + (SELECT count(*) FROM letters WHERE state IN ('sending', 'put_off'))"""
_STUCK: Final = """
SELECT email, count(*) - (SELECT count(*) FROM tellings t WHERE t.recipient_id = k.contact_id) AS untold, n.due_at,
  n.not_before, n.leased_until, now(), n.attempts, n.failing_since, (SELECT max(state) FROM letters l
    WHERE l.recipient_id = k.contact_id AND l.number > n.number) AS state
FROM contacts k JOIN notify_turns n ON n.recipient_id = k.contact_id JOIN alerts a ON a.company_id = k.company_id
WHERE a.resolved_at IS NULL GROUP BY k.company_id, k.contact_id, n.company_id, n.recipient_id"""
#: Once a letter and flag that it tells of.
_TOLD: Final = "SELECT recipient, message_id, f AS flag_id FROM letters, unnest(told) AS f WHERE state = 'sent'"
_NUMBERS: Final = "SELECT flag_id, flag->'appointment'->>'appointment_id' FROM alerts"
_SENT: Final = "SELECT message_id FROM letters WHERE state = 'sent'"


class Figures(Struct, kw_only=True):
    """What it came to. `again`: mails that the server took more than once, each under one Message-ID."""

    rounds: int
    paused: int
    flags: int
    letters: int
    mails: int
    again: int

    def __str__(self) -> str:
        """Give a line to read."""
        return (
            f"{self.rounds} kills, {self.paused} of them after a pause: {self.flags} flags in {self.letters} letters, "
            f"{self.mails} mails taken; {self.again} came again under the same Message-ID, none under two, none lost"
        )


class _Sleepers:
    """Notifiers that are paused, and go on when their letters are others'."""

    def __init__(self) -> None:
        self._asleep: list[tuple[int, Service]] = []
        self.count = 0

    def pause(self, service: Service, number: int) -> None:
        service.pause()
        self._asleep.append((number, service))
        self.count += 1

    def wake(self, upto: int) -> list[Service]:
        """Let those go on that were paused in this round or before; gives them."""
        woken = [service for number, service in self._asleep if number <= upto]
        self._asleep = [(number, service) for number, service in self._asleep if number > upto]
        for service in woken:
            service.resume()
        return woken


class _Slow:
    """Makes the office slow, and says when it has a mail in hand."""

    def __init__(self, office: PostOffice, random: Random) -> None:
        self._office, self._random = office, random
        self.at = {Step.BODY: asyncio.Event(), Step.KEPT: asyncio.Event()}

    def begin(self, mood: Mapping[Step, Order]) -> None:
        for event in self.at.values():
            event.clear()
        self._office.before_answer = [self._before]
        self._office.always = {Step.KEPT: self._after} | dict(mood)

    def end(self) -> None:
        self._office.before_answer, self._office.always = [], {}

    async def _before(self) -> None:
        self.at[Step.BODY].set()
        await self._wait(SLOW_SECONDS[0])

    async def _after(self) -> None:
        self.at[Step.KEPT].set()
        await self._wait(SLOW_SECONDS[1])

    async def _wait(self, most_seconds: float) -> None:
        await moment(asyncio.get_running_loop().time() + self._random.random() * most_seconds)


async def mailing(stage: Scene, office: PostOffice, *, rounds: int, random: Random) -> Figures:
    """Raise flags and kill notifiers; afterwards everybody was told of each once. Raises AssertionError."""
    await found(stage, COMPANY, PEOPLE, wait_seconds=0.2, interval_seconds=0.5)
    slow, sleepers = _Slow(office, random), _Sleepers()
    kept: list[Flag] = []
    for number in range(rounds):
        kept += await _raise(stage, number, random)
        mood = random.choice(MOODS) if number and random.randrange(10) >= CALM_IN_TEN else {}
        slow.begin(mood)
        woken = sleepers.wake(number - ASLEEP_ROUNDS)
        service = _notifier(stage, office)
        await _chosen_moment(slow, None if mood else (Step.KEPT, None, Step.BODY)[number % 3], random)
        if number and random.randrange(10) < PAUSED_IN_TEN:
            sleepers.pause(service, number)
        else:
            service.kill()
        for one in woken:
            one.kill()
    slow.end()
    woken = sleepers.wake(rounds)
    await moment(asyncio.get_running_loop().time() + LIVES_SECONDS[1])
    for one in woken:
        one.kill()
    await stage.pool.execute("UPDATE contacts SET name = name")  # who was put off for long is looked at anew
    _notifier(stage, office)
    await all_told(stage, len(kept), 120)
    await held(stage, office, kept)
    ids = office.message_ids()
    sent = len(set(ids))
    return Figures(
        rounds=rounds, paused=sleepers.count, flags=len(kept), letters=sent, mails=len(ids), again=len(ids) - sent
    )


async def _chosen_moment(slow: _Slow, step: Step | None, random: Random) -> None:
    """Wait for any moment of a life; or until a mail is where it is to be, and a bit longer."""
    loop = asyncio.get_running_loop()
    if step is None:
        await moment(loop.time() + random.uniform(*LIVES_SECONDS))
        return
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await slow.at[step].wait()
    except TimeoutError:
        return  # all letters are held for notifiers that were killed, or were put off
    await moment(loop.time() + random.random() * 0.1)


def _notifier(stage: Scene, office: PostOffice) -> Service:
    """Start one that takes all partitions at once: in a group the killed one's would be held for its session."""
    return stage.start(
        "notifier", kafka_assignment="all", smtp_port=office.smtp_port, smtp_timeout_seconds=SMTP_TIMEOUT_SECONDS
    )


async def _raise(stage: Scene, number: int, random: Random) -> list[Flag]:
    """Raise a flag or two that stay, and one that resolves itself at once; gives those that stay."""
    stay = [a_flag(COMPANY, 10 * number + n, in_hours=1000) for n in range(random.randint(1, 2))]
    gone = a_flag(COMPANY, 10 * number + 9, in_hours=1000)
    await publish(stage, (*stay, gone, resolving(gone)))
    return stay


async def found(
    stage: Scene, company_id: str, people: Collection[str], *, wait_seconds: float, interval_seconds: float
) -> None:
    """Add a company with admins of these names, who are told after these times."""
    await stage.company(company_id)
    await stage.pool.execute(
        "UPDATE companies SET group_wait_seconds = $2, group_interval_seconds = $3 WHERE company_id = $1",
        company_id, wait_seconds, interval_seconds,
    )  # fmt: skip
    await stage.pool.executemany(
        "INSERT INTO contacts (company_id, contact_id, name, email, role) VALUES ($1, $2, $3, $4, 'admin')",
        [(company_id, uuid4(), name.title(), f"{name}@example.com") for name in people],
    )


async def publish(stage: Scene, flags: Iterable[Flag]) -> None:
    """Put flags on their topic, as the reconciler's relay does."""
    await stage.publish(
        [
            Delivery(
                topic=SYNC_FLAGS,
                company_id=flag.company_id,
                ce_id=str(flag.id),
                ce_source="/reconciler",
                ce_type=flag.type.value,
                received_at=NOW,
                body=msgspec.json.encode(flag),
            )
            for flag in flags
        ]
    )


async def all_told(stage: Scene, flags: int, seconds: float) -> None:
    """Wait until so many flags are open, and everybody was told of all of them."""

    async def nothing_left() -> bool:
        seen = await stage.pool.fetchval("SELECT count(*) FROM alerts WHERE resolved_at IS NULL")
        left = await stage.pool.fetchval(_LEFT)
        return bool(seen == flags and left == 0)

    try:
        await until(nothing_left, seconds)
    except AssertionError as error:
        raise AssertionError(f"{error}; {[dict(row) for row in await stage.pool.fetch(_STUCK)]}") from None


async def held(stage: Scene, office: PostOffice, kept: Collection[Flag]) -> None:
    """Hold the mails that the server took against the flags, and against what the notifier believes.

    A mail lists ROWS at most: that the others were told of, under one Message-ID, is what the letter's row says.
    """
    texts: dict[str, set[str]] = defaultdict(set)
    shown: dict[str, set[str]] = defaultdict(set)
    under: dict[tuple[str, str], set[str]] = defaultdict(set)
    for mail, message_id in zip(office.mails, office.message_ids(), strict=True):
        texts[message_id].add(mail.text)
        shown[message_id] |= set(_NUMBER.findall(mail.text))
        for number in shown[message_id]:
            under[mail.to[0], number].add(message_id)
    assert all(len(found) == 1 for found in texts.values()), "two mails under one Message-ID"
    twice = {ref: ids for ref, ids in under.items() if len(ids) > 1}
    assert not twice, f"told under two Message-IDs: {twice}"
    sent = {row[0] for row in await stage.pool.fetch(_SENT)}
    assert sent == set(texts), "the notifier believes otherwise than the server"
    numbers = dict(await stage.pool.fetch(_NUMBERS))
    rows = [(row["recipient"], row["message_id"], numbers[row["flag_id"]]) for row in await stage.pool.fetch(_TOLD)]
    believed = Counter((recipient, number) for recipient, _, number in rows)
    people = await stage.pool.fetch("SELECT company_id, email FROM contacts")
    wanted = {(who["email"], _number(flag)) for who in people for flag in kept if flag.company_id == who["company_id"]}
    assert set(believed) == wanted, f"lost {wanted - set(believed)}, for nothing {set(believed) - wanted}"
    assert set(believed.values()) == {1}, f"told in two letters: {believed.most_common(3)}"
    letters: dict[str, set[str]] = defaultdict(set)
    for _, message_id, number in rows:
        letters[message_id].add(number)
    wrong = {name: told ^ shown[name] for name, told in letters.items() if not _says(shown[name], told)}
    assert not wrong, f"mails that do not say what their letters do: {wrong}"


def _number(flag: Flag) -> str:
    assert flag.appointment is not None
    assert flag.appointment.appointment_id is not None
    return flag.appointment.appointment_id


def _says(shown: set[str], told: set[str]) -> bool:
    return shown == told if len(told) <= ROWS else shown < told and len(shown) == ROWS


async def run(given: argparse.Namespace, folder: Path) -> str:
    """Stand up what is needed, kill, check; gives a line to read. Raises AssertionError."""
    async with alone(folder) as (stage, _), PostOffice() as office:
        figures = await mailing(stage, office, rounds=given.rounds, random=Random(given.seed))
        assert figures.again or not given.rounds, "no kill met a mail under way"
        return f"held: {figures}"


def main(arguments: list[str]) -> int:
    """Kill from the command line."""
    quiet()
    parser = argparse.ArgumentParser(prog="tests.faults.mailing", description="Notifiers are killed")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    with TemporaryDirectory(prefix="reconcal-mailing-") as folder:
        sys.stdout.write(asyncio.run(run(given, Path(folder))) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
