"""The topics, each named once, and what their records' types are called."""

from typing import Final

CALCOM_BOOKINGS: Final = "calcom.bookings.v1"
APP_APPOINTMENTS: Final = "app.appointments.v1"
SYNC_COMMANDS: Final = "sync.commands.v1"
SYNC_FLAGS: Final = "sync.flags.v1"
SYNC_DEAD_LETTERS: Final = "sync.dead-letters.v1"

#: All that may change a record. Same partition count, same key, one owner per partition number.
INPUTS: Final = (APP_APPOINTMENTS, CALCOM_BOOKINGS, SYNC_COMMANDS)
#: The two sides whose frontiers gate a deadline. A command can wait without making an alarm false.
SIDES: Final = (APP_APPOINTMENTS, CALCOM_BOOKINGS)
ALL: Final = (*INPUTS, SYNC_FLAGS, SYNC_DEAD_LETTERS)

#: CloudEvents types (`ce_type`) of what ingest stores; the body decides the rest.
TYPE_CALCOM_WEBHOOK: Final = "com.cal.webhook"
TYPE_APPOINTMENT: Final = "reconcal.appointment"
TYPE_COMMAND: Final = "reconcal.command"
TYPE_OBSERVATION: Final = "reconcal.observation"
TYPE_CHECK: Final = "reconcal.check"
