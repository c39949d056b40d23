"""All that moves a record, on one page.

    correlate(cluster, event, policy) -> Decision

An event of a side is added to what that side said; then every record of the cluster is settled anew from what its
sides amount to (`findings.find`), the flag that is open and the decision that a human took. A deadline turns a finding
into a flag, or has Cal.com asked first (`rounds`); what Cal.com answered is added to the record's answers. A command
lays a human's decision beside the finding. Nothing else moves a record.
"""

from msgspec.structs import replace

from services.reconciler.core.commands import obey
from services.reconciler.core.deadlines import reach
from services.reconciler.core.decision import Cluster, Decision
from services.reconciler.core.effects import WEBHOOK_LOST
from services.reconciler.core.events import (
    OBSERVED,
    Checked,
    Commanded,
    DeadlineReached,
    Event,
    Heard,
    HeardAppointment,
    HeardBooking,
    PolicyChanged,
    event_id,
)
from services.reconciler.core.hearsay import by_seat
from services.reconciler.core.policy import Policy
from services.reconciler.core.settling import Appointments, Bookings, settle_all, sides_by_name
from services.reconciler.core.sides import AppointmentSide, BookingSide, hear


def correlate(cluster: Cluster, event: Event, policy: Policy) -> Decision:
    """Decide what an event makes of a cluster. Pure: same arguments, same decision."""
    if type(event) is DeadlineReached:
        return reach(cluster, event, policy)
    if type(event) is Commanded:
        return obey(cluster, event, policy)
    if type(event) is Checked:
        return _check(cluster, event, policy)
    if type(event) is PolicyChanged:
        return settle_all(cluster, *sides_by_name(cluster), policy, event.at, event_id(event))
    return _hear(cluster, event, policy)


def _hear(cluster: Cluster, heard: Heard, policy: Policy) -> Decision:
    appointments, bookings = sides_by_name(cluster)
    news = False
    if type(heard) is HeardBooking:
        for one in by_seat(heard):
            news = _hear_booking(bookings, one) or news
    else:
        news = _hear_appointment(appointments, heard)
    if not news and len(cluster.ids) <= 1:
        return Decision(cluster=cluster, repeat=True)
    decision = settle_all(cluster, appointments, bookings, policy, heard.received_at, event_id(heard))
    if type(heard) is HeardBooking and heard.event.trigger == OBSERVED:
        decision = _healed(decision, cluster)
    return decision if news else replace(decision, repeat=True)


def _hear_appointment(appointments: Appointments, heard: HeardAppointment) -> bool:
    """Add an event to its side; tells whether it said anything new."""
    name = heard.event.appointment.id
    known = appointments.get(name)
    said = hear(known.heard if known else (), heard)
    if known is not None and said is known.heard:
        return False
    appointments[name] = AppointmentSide(name, said)
    return True


def _hear_booking(bookings: Bookings, heard: HeardBooking) -> bool:
    key = (heard.event.uid, heard.event.seat)
    known = bookings.get(key)
    said = hear(known.heard if known else (), heard)
    if known is not None and said is known.heard:
        return False
    bookings[key] = BookingSide(*key, said)
    return True


def _check(cluster: Cluster, event: Checked, policy: Policy) -> Decision:
    """Add an answer of Cal.com to the record that holds the side which was asked about."""
    return settle_all(cluster, *sides_by_name(cluster), policy, event.received_at, event_id(event), event.answer)


def _healed(decision: Decision, before: Cluster) -> Decision:
    """Say so where the API told what a webhook should have told."""
    wrong = {record.record_id for record in before.records if record.finding is not None}
    well = {record.record_id for record in decision.changed if record.finding is None} & wrong
    if not well:
        return decision
    transitions = [
        replace(t, note=WEBHOOK_LOST, why=replace(t.why, note=WEBHOOK_LOST)) if t.record_id in well else t
        for t in decision.transitions
    ]
    return replace(decision, transitions=tuple(transitions))
