"""A stand-in for Cal.com: its API v2 over a store of its own, and its webhooks.

For tests and the demo. Nothing of Reconcal reads its store: what there is to know, is asked for over HTTP.
"""

from services.embedded.calcom.model import Account, Booking, EventType, Person, Webhook
from services.embedded.calcom.standin import Calcom

__all__ = ["Account", "Booking", "Calcom", "EventType", "Person", "Webhook"]
