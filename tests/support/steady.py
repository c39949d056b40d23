"""A steady stream at ingest's doors, at a rate of its own whatever becomes of the answers; and which came when."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from typing import Final

from msgspec import Struct

from schemas import topics
from schemas.envelope import Envelope
from services.companies.admin import Added
from services.embedded.ports import HOST
from services.ingest.batch import MOST_EVENTS
from services.plumbing.lifecycle import pause
from tests.support.load import Case, Side
from tests.support.senders import signed

#: Webhooks of one company that may be under way at once.
LANES: Final = 4
#: How often the app sends what has happened, all of it at once.
BATCH_SECONDS: Final = 0.25
TICK_SECONDS: Final = 0.01
#: What was refused, or never answered, is sent again after this time, and given up after that.
AGAIN_SECONDS: Final = 0.1
GIVE_UP_SECONDS: Final = 90.0
ANSWER_SECONDS: Final = 15.0
_ACCEPTED: Final = 202
#: Of so many cases one is alone in the app and one at Cal.com.
ONE_ALONE_IN: Final = 25


class Sent(Struct):
    """One event: when it was first sent and when 202 came, by the loop's clock; how long that one answer took."""

    topic: str
    began_at: float
    answered_at: float | None = None
    seconds: float = 0.0


class Refusal(Struct, frozen=True):
    """An answer that is no 202, and when it came."""

    at: float
    status: int
    retry_after: str | None


class Steady:
    """Sends a webhook per case, and appointments in batches that lag behind. All is repeated until it is taken.

    So what is planted is what must be found, in the order in which it was taken. Cal.com does not repeat; whoever
    wants to know what it would have lost looks at `refused` and `unanswered_at`.
    """

    def __init__(
        self, companies: Sequence[Added], webhooks_per_second: float, *, first: int = 1, lag_seconds: float = 0.5
    ) -> None:
        """`first`: the number of the first case. Nothing is sent before `run`."""
        self._companies = companies
        self._per_second, self._lag_seconds = webhooks_per_second, lag_seconds
        self._number = first
        self.planted: list[Case] = []
        self.sent: dict[bytes, Sent] = {}
        self.refused: list[Refusal] = []
        self.unanswered_at: list[float] = []
        self.taken = 0

    async def run(self, port_of: Callable[[str], int], stop: asyncio.Event) -> None:
        """Send until `stop`; returns when everything is taken. Raises AssertionError when that never comes.

        `port_of` gives the port at which a topic's events are taken at the moment.
        """
        ended = asyncio.Event()
        mouths = [_Mouth(self, company, port_of, ended) for company in self._companies]
        async with asyncio.TaskGroup() as group:
            for mouth in mouths:
                mouth.open(group)
            await self._produce(mouths, stop)
            ended.set()

    def seconds(self, topic: str, *, since: float = 0.0, until: float = float("inf")) -> list[float]:
        """Give how long answers took that came between two moments, sorted."""
        found = (sent for sent in self.sent.values() if sent.topic == topic)
        return sorted(one.seconds for one in found if one.answered_at and since <= one.answered_at <= until)

    def check(self, envelopes: Iterable[Envelope]) -> None:
        """Check that everything that was taken is there, and nowhere behind what was sent only after its answer."""
        places: dict[tuple[str, int], dict[bytes, None]] = {}
        for envelope in sorted(envelopes, key=lambda e: e.offset):
            places.setdefault((envelope.topic, envelope.partition), {}).setdefault(envelope.body)
        found = {body for bodies in places.values() for body in bodies}
        lost = [body for body, sent in self.sent.items() if sent.answered_at is not None and body not in found]
        assert not lost, f"{len(lost)} of {len(self.sent)} lost, the first: {lost[0][:300]!r}"
        for place, bodies in places.items():
            wrong = _overtaken([self.sent[body] for body in bodies if body in self.sent])
            assert not wrong, f"{place}: {len(wrong)} overtaken, the first {wrong[0]} of {len(bodies)}"

    async def _produce(self, mouths: "Sequence[_Mouth]", stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        began_at, made = loop.time(), 0
        while not stop.is_set():
            while made < (loop.time() - began_at) * self._per_second:
                mouth = mouths[made % len(mouths)]
                made += 1
                case = Case(mouth.company_id, self._number, _side(self._number))
                self._number += 1
                self.planted.append(case)
                mouth.say(case, loop.time() + self._lag_seconds)
            await pause(TICK_SECONDS, stop)


def _side(number: int) -> Side:
    return {0: Side.APP, 1: Side.CALCOM}.get(number % ONE_ALONE_IN, Side.BOTH)


def _overtaken(log: Sequence[Sent]) -> list[int]:
    """Give the places of those that lie before something that was answered before they were sent."""
    wrong, earliest = [], float("inf")
    for at in range(len(log) - 1, -1, -1):
        if earliest < log[at].began_at:
            wrong.append(at)
        answered_at = log[at].answered_at
        earliest = earliest if answered_at is None else min(earliest, answered_at)
    return wrong[::-1]


class _Mouth:
    """What one company has to say: webhooks on several lines, appointments on one."""

    def __init__(self, steady: Steady, company: Added, port_of: Callable[[str], int], ended: asyncio.Event) -> None:
        self._steady, self._port_of, self._ended = steady, port_of, ended
        self.company_id = company.company.company_id
        self._secret, self._token = company.calcom_webhook, company.ingest_token
        self._webhooks: asyncio.Queue[Case | None] = asyncio.Queue()
        self._appointments: list[tuple[float, Case]] = []

    def open(self, group: asyncio.TaskGroup) -> None:
        for _ in range(LANES):
            group.create_task(self._send_webhooks())
        group.create_task(self._send_appointments())
        group.create_task(self._hang_up())

    def say(self, case: Case, appointment_at: float) -> None:
        if case.uid:
            self._webhooks.put_nowait(case)
        if case.appointment_id:
            self._appointments.append((appointment_at, case))

    async def _hang_up(self) -> None:
        await self._ended.wait()
        for _ in range(LANES):
            self._webhooks.put_nowait(None)

    async def _send_webhooks(self) -> None:
        path = f"/webhooks/calcom/{self.company_id}"
        with closing(_Line(self._port_of, topics.CALCOM_BOOKINGS)) as line:
            while case := await self._webhooks.get():
                body = case.booking()
                await self._until_taken(line, path, signed(self._secret, body), body, topics.CALCOM_BOOKINGS, [body])

    async def _send_appointments(self) -> None:
        """Send what is due; and all the rest at the end, be it due or not."""
        path, loop = f"/events/appointments/{self.company_id}", asyncio.get_running_loop()
        headers = {"authorization": f"Bearer {self._token}", "content-type": "application/x-ndjson"}
        with closing(_Line(self._port_of, topics.APP_APPOINTMENTS)) as line:
            while not self._ended.is_set() or self._appointments:
                now = float("inf") if self._ended.is_set() else loop.time()
                bodies = [case.appointment() for at, case in self._appointments if at <= now][:MOST_EVENTS]
                del self._appointments[: len(bodies)]
                if bodies:
                    body = b"\n".join(bodies)
                    await self._until_taken(line, path, headers, body, topics.APP_APPOINTMENTS, bodies)
                await pause(BATCH_SECONDS, self._ended)

    async def _until_taken(
        self, line: "_Line", path: str, headers: Mapping[str, str], body: bytes, topic: str, events: Sequence[bytes]
    ) -> None:
        loop, steady, never = asyncio.get_running_loop(), self._steady, asyncio.Event()
        first_at = loop.time()
        noted = [steady.sent.setdefault(event, Sent(topic, first_at)) for event in events]
        while loop.time() < first_at + GIVE_UP_SECONDS:
            began_at = loop.time()
            status, head = await line.post(path, headers, body)
            if status == _ACCEPTED:
                for one in noted:
                    one.answered_at = loop.time()
                    one.seconds = one.answered_at - began_at
                steady.taken += len(noted)
                return
            if status is None:
                steady.unanswered_at.append(loop.time())
            else:
                steady.refused.append(Refusal(loop.time(), status, head.get("retry-after")))
            await pause(AGAIN_SECONDS, never)
        raise AssertionError(f"not taken within {GIVE_UP_SECONDS} s: {body[:200]!r}")


class _Line:
    """One connection that is kept alive, and opened anew when it broke."""

    def __init__(self, port_of: Callable[[str], int], topic: str) -> None:
        self._port_of, self._topic = port_of, topic
        self._open: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int | None, dict[str, str]]:
        """Give status and headers of the answer; None: none came."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self._post(path, headers, body)
        except (OSError, EOFError, TimeoutError):
            self.close()
            return None, {}

    async def _post(self, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, dict[str, str]]:
        if self._open is None:
            self._open = await asyncio.open_connection(HOST, self._port_of(self._topic))
        reader, writer = self._open
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(
            f"POST {path} HTTP/1.1\r\nhost: ingest\r\ncontent-length: {len(body)}\r\n{lines}\r\n".encode() + body
        )
        first, *rest = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        head = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
        await reader.readexactly(int(head.get("content-length", "0")))
        if head.get("connection") == "close":
            self.close()
        return int(first.split()[1]), head

    def close(self) -> None:
        if self._open is not None:
            self._open[1].transport.abort()
            self._open = None
