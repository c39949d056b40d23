"""What people do at Cal.com: each act changes rows and, unless its webhook is to be lost, tells the subscribers.

Acts that Cal.com would refuse raise ValueError; a uid that it does not have, KeyError.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from msgspec.structs import replace

from services.embedded.calcom import payloads
from services.embedded.calcom.hooks import Hooks
from services.embedded.calcom.model import Account, Booking, EventType, Json, Person
from services.embedded.calcom.store import Store

INTAKE: Final = EventType()


class Acts:
    """The booking page, the host's calendar, the cash desk."""

    def __init__(self, store: Store, hooks: Hooks, clock: Callable[[], datetime]) -> None:
        """`clock` gives aware times, UTC."""
        self._store, self._hooks, self._clock = store, hooks, clock

    # --- Bookings of one -------------------------------------------------------------------------------------------

    async def book(
        self,
        account: Account,
        start: datetime,
        *people: Person,
        event_type: EventType = INTAKE,
        metadata: Json | None = None,
        send: bool = True,
        seen_from: datetime | None = None,
    ) -> Booking:
        """Book; what must be paid or confirmed is pending. `seen_from`: the API does not see it before."""
        first = self._seats(people) if event_type.seats is not None else people
        row = self._row(account, start, first, event_type, metadata or {})
        if seen_from is not None:
            self._store.hide(row.uid, seen_from)
        if send:
            await self._hooks.tell(row, self._told_at_making(row))
        return row

    async def confirm(self, uid: str, *, send: bool = True) -> Booking:
        """Let the host say yes; of a series all are accepted, and one webhook goes out."""
        row = self._require(uid, "PENDING")
        for one in self._series(row):
            self._change(one, status="ACCEPTED", location=one.call_url)
        return await self._tell(self._store.booking(uid), "BOOKING_CREATED", payloads.confirmed, send=send)

    async def reject(self, uid: str, *, reason: str = "", send: bool = True) -> Booking:
        """Let the host say no; of a series to all, and one webhook goes out."""
        row = self._require(uid, "PENDING")
        for one in self._series(row):
            self._change(one, status="REJECTED", rejection_reason=reason)
        return await self._tell(self._store.booking(uid), "BOOKING_REJECTED", payloads.rejected, send=send)

    async def cancel(self, uid: str, *, reason: str = "", by: str = "", send: bool = True) -> Booking:
        """Call a booking off, all seats of it."""
        row = self._change(self._living(uid), status="CANCELLED", cancellation_reason=reason, cancelled_by=by)
        return await self._tell(row, "BOOKING_CANCELLED", payloads.cancelled, send=send)

    async def ask_to_move(self, uid: str, *, reason: str = "", send: bool = True) -> Booking:
        """Let the host call it off and ask for another time; nothing will link what follows to it."""
        row = self._living(uid)
        told = f"Please reschedule. {reason}".strip()
        by = self._host(row).email
        row = self._change(row, status="CANCELLED", cancellation_reason=told, cancelled_by=by)
        return await self._tell(row, "BOOKING_CANCELLED", payloads.asked_to_move, send=send)

    async def move(
        self, uid: str, start: datetime, *, by: payloads.Mover = "page", reason: str | None = None, send: bool = True
    ) -> Booking:
        """Give a booking another time: a new row, the old one is cancelled without a word. Gives the new one.

        Of a seated one it is the same row. Where the host has to confirm, the new row is pending and BOOKING_REQUESTED
        goes out, which does not name the old one.
        """
        old = self._living(uid)
        length = old.end - old.start
        if old.event_type.seats is not None:
            row = self._change(old, start=start, end=start + length, ical_sequence=old.ical_sequence + 1)
            return await self._tell_moved(row, old, by, send=send)
        mover = self._host(old).email if by == "api" else old.attendees[0].email
        row = self._make_anew(old, start, mover, reason)
        self._change(old, status="CANCELLED", to_uid=row.uid, rescheduled_by=mover)
        return await self._tell_moved(row, old, by, send=send)

    async def pay(self, uid: str, *, send: bool = True) -> Booking:
        """Let a payment come: the booking is accepted, or waits for the host's word."""
        row = self._require(uid, "PENDING")
        if row.paid or not row.event_type.price:
            raise ValueError(f"nothing is to be paid for {uid}")
        if row.event_type.requires_confirmation:
            row = self._change(row, paid=True)
            await self._tell(row, "BOOKING_PAID", payloads.paid, send=send)
            return await self._tell(row, "BOOKING_REQUESTED", payloads.requested_after_payment, send=send)
        row = self._change(row, paid=True, status="ACCEPTED", location=row.call_url)
        await self._tell(row, "BOOKING_CREATED", payloads.confirmed, send=send)
        return await self._tell(row, "BOOKING_PAID", payloads.paid, send=send)

    # --- Seats and series ------------------------------------------------------------------------------------------

    async def take_seat(self, uid: str, person: Person, *, send: bool = True) -> Booking:
        """Take one more seat; uid and number are those of the booking."""
        row = self._living(uid)
        if row.event_type.seats is None or len(row.attendees) >= row.event_type.seats:
            raise ValueError(f"no seat is free in {uid}")
        (seat,) = self._seats((person,))
        row = self._change(row, attendees=(*row.attendees, seat))
        if send:
            body = payloads.envelope("BOOKING_CREATED", payloads.made(row, self._host(row), seat), self._clock())
            await self._hooks.tell(row, body)
        return row

    async def leave_seat(self, uid: str, seat_uid: str, *, send: bool = True) -> Booking:
        """Leave a seat: the webhook says CANCELLED, though the booking lives as long as somebody sits there."""
        row = self._living(uid)
        leaver = next((one for one in row.attendees if one.seat_uid == seat_uid), None)
        if leaver is None:
            raise ValueError(f"no seat {seat_uid} in {uid}")
        left = tuple(one for one in row.attendees if one is not leaver)
        row = self._change(row, attendees=left, status=row.status if left else "CANCELLED")
        if send:
            payload = payloads.cancelled(row, self._host(row), leaver=leaver)
            await self._hooks.tell(row, payloads.envelope("BOOKING_CANCELLED", payload, self._clock()))
        return row

    async def book_series(
        self,
        account: Account,
        starts: Sequence[datetime],
        *people: Person,
        event_type: EventType = INTAKE,
        metadata: Json | None = None,
        send: bool = True,
    ) -> list[Booking]:
        """Book a series: each occurrence is a booking, told of by itself."""
        series = self._store.new_uuid()
        rows = []
        for start in starts:
            row = self._row(account, start, people, event_type, metadata or {})
            rows.append(self._change(row, series_uid=series, occurrences=len(starts)))
        for row in rows if send else ():
            await self._hooks.tell(row, self._told_at_making(row))
        return rows

    async def cancel_rest(self, uid: str, *, remaining: bool = True, send: bool = True) -> list[Booking]:
        """Call off an occurrence and those behind it; one webhook goes out, for that one.

        `remaining`: all that are still to come, and the webhook says that it is of a series; else this one and the
        following, and nothing says so.
        """
        first = self._living(uid)
        since = min(first.start, self._clock()) if remaining else first.start
        ends = [one for one in self._series(first) if one.alive and one.start >= since]
        rows = [self._change(one, status="CANCELLED") for one in ends]
        if send:
            payload = payloads.cancelled(self._store.booking(uid), self._host(first), series=remaining)
            await self._hooks.tell(first, payloads.envelope("BOOKING_CANCELLED", payload, self._clock()))
        return rows

    # --- Facts, and what nobody is told of --------------------------------------------------------------------------

    async def mark_absent(self, uid: str, email: str, *, absent: bool = True, send: bool = True) -> Booking:
        """Mark an attendee as absent, or not."""
        row = self._store.booking(uid)
        people = tuple(replace(one, absent=absent) if one.email == email else one for one in row.attendees)
        row = self._change(row, attendees=people)
        for one in people if send else ():
            if one.email == email:
                body = payloads.envelope("BOOKING_NO_SHOW_UPDATED", payloads.no_show(row, one), self._clock())
                await self._hooks.tell(row, body)
        return row

    async def hold_meeting(self, uid: str, trigger: str = "MEETING_ENDED") -> None:
        """Let the clock say that a meeting began or ended: MEETING_STARTED, MEETING_ENDED."""
        row = self._store.booking(uid)
        await self._hooks.tell(row, payloads.meeting(row, self._host(row), trigger))

    async def press_test_button(self, webhook_id: str) -> None:
        """Send a PING."""
        await self._hooks.post_to([self._store.webhooks[webhook_id]], payloads.ping(self._clock()))

    def edit(self, uid: str, **changes: Any) -> Booking:  # noqa: ANN401 - any column
        """Change a row's columns, and tell nobody: another host, a location, a NULL. Gives the row."""
        return self._change(self._store.booking(uid), **changes)

    # --- Rows ------------------------------------------------------------------------------------------------------

    def _host(self, row: Booking) -> Account:
        return self._store.accounts[row.user_id]

    def _change(self, row: Booking, **changes: Any) -> Booking:  # noqa: ANN401 - any column
        now = self._clock()
        return self._store.put(now, replace(row, **({"updated_at": now} | changes)))

    def _living(self, uid: str) -> Booking:
        row = self._store.booking(uid)
        if not row.alive:
            raise ValueError(f"{uid} is {row.status}, and so cannot be changed")
        return row

    def _require(self, uid: str, status: str) -> Booking:
        row = self._store.booking(uid)
        if row.status != status:
            raise ValueError(f"{uid} is {row.status}, not {status}")
        return row

    def _series(self, row: Booking) -> list[Booking]:
        """Give a row and the others of its series in the same state."""
        if row.series_uid is None:
            return [row]
        rows = (self._store.booking(uid) for uid in self._store.uids(row.series_uid))
        return [one for one in rows if one.status == row.status]

    def _seats(self, people: Sequence[Person]) -> tuple[Person, ...]:
        return tuple(replace(one, seat_uid=self._store.new_uuid()) for one in people)

    def _row(
        self, account: Account, start: datetime, people: Sequence[Person], event_type: EventType, metadata: Json
    ) -> Booking:
        if not people:
            raise ValueError("nobody books")
        now, uid = self._clock(), self._store.new_uid()
        pending = event_type.requires_confirmation or event_type.price > 0
        row = Booking(
            id=self._store.new_booking_id(),
            uid=uid,
            user_id=account.user_id,
            title=f"{event_type.title} between {account.name} and {people[0].name}",
            event_type=event_type,
            start=start,
            end=start + timedelta(minutes=event_type.length_minutes),
            status="PENDING" if pending else "ACCEPTED",
            created_at=now,
            updated_at=now,
            attendees=tuple(people),
            metadata=metadata,
            ical_uid=f"{uid}@Cal.com",
        )
        return self._store.put(now, row if pending else replace(row, location=row.call_url))

    def _make_anew(self, old: Booking, start: datetime, mover: str, reason: str | None) -> Booking:
        now, uid = self._clock(), self._store.new_uid()
        pending = old.event_type.requires_confirmation or old.status == "PENDING"
        row = replace(
            old,
            id=self._store.new_booking_id(),
            uid=uid,
            start=start,
            end=start + (old.end - old.start),
            status="PENDING" if pending else "ACCEPTED",
            created_at=now,
            updated_at=now,
            from_uid=old.uid,
            rescheduled_by=mover,
            rescheduling_reason=reason,
            ical_sequence=old.ical_sequence + 1,
        )
        return self._store.put(now, row if pending else replace(row, location=row.call_url))

    # --- Words -----------------------------------------------------------------------------------------------------

    def _told_at_making(self, row: Booking) -> Json:
        host = self._host(row)
        seat = row.attendees[0] if row.event_type.seats is not None else None
        if row.event_type.price:
            return payloads.envelope("BOOKING_PAYMENT_INITIATED", payloads.awaiting_payment(row, host), self._clock())
        trigger = "BOOKING_REQUESTED" if row.status == "PENDING" else "BOOKING_CREATED"
        return payloads.envelope(trigger, payloads.made(row, host, seat), self._clock())

    async def _tell(
        self, row: Booking, trigger: str, payload: Callable[[Booking, Account], Json], *, send: bool
    ) -> Booking:
        if send:
            await self._hooks.tell(row, payloads.envelope(trigger, payload(row, self._host(row)), self._clock()))
        return row

    async def _tell_moved(self, row: Booking, old: Booking, by: payloads.Mover, *, send: bool) -> Booking:
        if row.status == "PENDING":
            return await self._tell(row, "BOOKING_REQUESTED", payloads.made, send=send)
        return await self._tell(
            row, "BOOKING_RESCHEDULED", lambda row, host: payloads.moved(row, old, host, by), send=send
        )
