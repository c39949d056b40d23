"""Logs and metrics. Every name that an operator sees is written here once."""

import logging
import sys
from typing import Any, Final

import structlog
from prometheus_client import Counter, Gauge, Histogram

from services.plumbing.settings import Settings

# --- log events: one wide line a unit of work ------------------------------------------------------------------
INGEST_REQUEST: Final = "ingest.request"  # one HTTP request: who, what, how large, answered how, how long
SPOOL_BEGUN: Final = "ingest.spool_begun"  # Kafka does not take what comes: it goes to the disk
SPOOL_DRAINED: Final = "ingest.spool_drained"  # Kafka has all that lay on the disk
SPOOL_DAMAGED: Final = "ingest.spool_damaged"  # a spool's file was set aside under this name, and a fresh one begun
SPOOL_SAVED: Final = "ingest.spool_saved"  # so many messages of a damaged spool could still be read, and go on
SPOOL_REFUSED: Final = "ingest.spool_refused"  # Kafka will never take this message: it stays in the spool's `refused`
SPOOL_ADOPTED: Final = "ingest.spool_adopted"  # a spool that no process holds any more is drained by this one
RECONCILER_BATCH: Final = "reconciler.batch"  # one transaction: how many envelopes, records, flags, how long
RECONCILER_DEADLINES: Final = "reconciler.deadlines"  # deadlines that fired, or were held, and why
RECONCILER_ASSIGNED: Final = "reconciler.assigned"  # the partitions that this process owns now
RECONCILER_BRAKE: Final = "reconciler.brake"  # a partition stopped: too many dead letters
RECONCILER_FENCED: Final = "reconciler.fenced"  # another process owns what this one took for its own
RECONCILER_REROUTED: Final = "reconciler.rerouted"  # envelopes on the wrong partition for their key go on to their own
RECONCILER_RULES: Final = "reconciler.rules"  # records decided anew because the rules of their company have changed
PROBE_FAILED: Final = "reconciler.probe_failed"  # the broker did not say where its logs end: decisions are held
RECONCILER_NEW_LOG: Final = "reconciler.new_log"  # offsets of PostgreSQL lie outside of the log: read from its start
RELAY_PUBLISHED: Final = "relay.published"  # outbox rows that Kafka acknowledged
NOTIFIER_FLAG: Final = "notifier.flag"  # a flag taken in: who is told
NOTIFIER_LETTER: Final = "notifier.letter"  # one mail or Slack message: how much it tells, answered how
NOTIFIER_WEBHOOK: Final = "notifier.webhook"  # one signed webhook, or an endpoint that was switched off
NOTIFIER_TROUBLE: Final = "notifier.trouble"  # letters do not go out, and what somebody has to mend; once an episode
NOTIFIER_TROUBLE_OVER: Final = "notifier.trouble_over"  # they go out again
THRESHOLD: Final = "reconciler.threshold"  # a company crossed a threshold, or is back within it
CONSOLE_REQUEST: Final = "console.request"  # one HTTP request to the pages
NOTIFIER_NOBODY: Final = "notifier.nobody"  # a flag of a company without admin or manager
NOTIFIER_UNREADABLE: Final = "notifier.unreadable"  # a record on the topic of flags that is no flag: passed over
NOTIFIER_POSITIONS: Final = "notifier.positions"  # where reading begins, and what of it was not known
SWEEPS_MINE: Final = "sweeps.mine"  # this process runs the sweeps from now on; no other does
SWEEP_BEGUN: Final = "sweep.begun"  # a round of asking again: how many records it is about
SWEEP_PASSED_OVER: Final = "sweep.passed_over"  # Cal.com does not answer for these companies: left to the next sweep
SWEEP_FINISHED: Final = "sweep.finished"  # how many of them Cal.com is asked about
CALCOM_INCIDENT: Final = "verifier.incident"  # Cal.com cannot be asked for a company, and what its admin has to mend
CALCOM_INCIDENT_OVER: Final = "verifier.incident_over"  # Cal.com has answered that company again
VERIFIER_CHECK: Final = "verifier.check"  # a question that Cal.com was asked: what it answered, or why it was put back
VERIFIER_POLL: Final = "verifier.poll"  # a company's changes at Cal.com were read: how far, and what came by no webhook
VERIFIER_BACKFILL: Final = "verifier.backfill"  # a page of a company's past was loaded, or all of it, or why not
VERIFIER_WEBHOOK: Final = "verifier.webhook"  # our webhook at Cal.com was looked at: what state it is in
CALCOM_CLIENT_FAILED: Final = "verifier.client_failed"  # an answer of Cal.com that the client was not made for
LOOP_FAILED: Final = "loop.failed"  # a loop ended with an error and will be tried again
SERVICE_STARTED: Final = "service.started"
SERVICE_STOPPED: Final = "service.stopped"
SETTING_UNKNOWN: Final = "setting.unknown"  # a variable with our prefix that means nothing

# --- metrics ---------------------------------------------------------------------------------------------------
ingest_requests = Counter("reconcal_ingest_requests", "Requests at the front door.", ["door", "status"])
ingest_seconds = Histogram(
    "reconcal_ingest_seconds",
    "From the first byte of a request to its answer, without the time that a webhook over the limit was let wait.",
    ["door"],
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
ingest_slowed = Counter(
    "reconcal_ingest_slowed",
    "Webhooks of Cal.com over their company's limit: taken, and answered `late`, or `at_once` where too many wait.",
    ["answered"],
)
spool_messages = Gauge("reconcal_spool_messages", "Messages that wait in ingest's spool.")
spool_bytes = Gauge("reconcal_spool_bytes", "Bytes of the messages that wait in ingest's spool.")
spool_max_bytes = Gauge("reconcal_spool_max_bytes", "What the spool takes at most; 0: there is no spool.")
spool_oldest_seconds = Gauge("reconcal_spool_oldest_seconds", "Age of what ingest received and Kafka does not have.")
spooled = Counter("reconcal_spooled", "Messages that were written to the spool.")
spool_drained = Counter("reconcal_spool_drained", "Messages of the spool that Kafka acknowledged.")
spool_damaged = Counter("reconcal_spool_damaged", "Spools whose file was damaged and set aside.")
spool_refused = Counter("reconcal_spool_refused", "Messages of the spool that Kafka will never take.")
http_refused = Counter(
    "reconcal_http_refused", "Connections whose bytes were no request, or too much of one.", ["status"]
)
batches = Counter("reconcal_batches", "Transactions of the reconciler.")
batch_seconds = Histogram(
    "reconcal_batch_seconds",
    "From decode to commit.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
envelopes = Counter("reconcal_envelopes", "Envelopes that were folded.", ["topic", "disposition"])
dead_letters = Counter("reconcal_dead_letters", "Envelopes that could not be understood.", ["topic", "reason"])
rerouted = Counter("reconcal_rerouted", "Envelopes that lay on the wrong partition for their key.", ["topic"])
event_notes = Counter(
    "reconcal_event_notes", "Events whose time is remarkable: `late`, `clock_ahead`, `clock_behind`.", ["note"]
)
doors_silent = Gauge("reconcal_doors_silent", "Ingest processes that fell silent without a goodbye; not waited for.")
flags_raised = Counter("reconcal_flags", "Flags raised and resolved.", ["type"])
webhooks_lost = Counter("reconcal_webhooks_lost", "Records that Cal.com's API mended: their webhook never came.")
questions_asked = Counter("reconcal_questions", "Questions to Cal.com that decisions came to.", ["priority"])
deadline_seconds = Histogram(
    "reconcal_deadline_to_flag_seconds",
    "From a deadline to the committed flag.",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 30, 60, 300),
)
frontier_age_seconds = Gauge("reconcal_frontier_age_seconds", "Age of a partition's frontier.", ["topic", "partition"])
held_decisions = Gauge("reconcal_held_decisions", "Deadlines that passed and wait for a frontier.", ["partition"])
partitions_stopped = Gauge("reconcal_partitions_stopped", "Partitions stopped by the dead-letter brake.")
outbox_published = Counter("reconcal_outbox_published", "Outbox rows acknowledged by Kafka.")
letters = Counter("reconcal_letters", "Attempts to send mails and Slack messages.", ["channel", "state"])
mail_seconds = Histogram(
    "reconcal_deadline_to_mail_seconds",
    "From the deadline behind a flag to the accepted mail that tells of it first, each person's.",
    buckets=(1, 5, 15, 30, 32, 35, 60, 120, 300, 600, 1800, 7200),
)
endpoint_messages = Counter("reconcal_endpoint_messages", "Signed webhooks by what became of them.", ["state"])
endpoint_messages_waiting = Gauge("reconcal_endpoint_messages_waiting", "Signed webhooks that were not taken yet.")
endpoints_off = Gauge("reconcal_endpoints_off", "Endpoints that were switched off after days of failure.")
delivery_troubles = Gauge("reconcal_delivery_troubles", "What keeps letters from going out, by kind.", ["kind"])
recipients_waiting = Gauge("reconcal_recipients_waiting", "Recipients whose turn it is, or whose letter was put off.")
oldest_letter_seconds = Gauge(
    "reconcal_oldest_letter_seconds", "For how long a letter has been to go out, at most; 0: none is."
)
companies_without_recipient = Gauge(
    "reconcal_companies_without_recipient", "Companies that have nobody to tell, whether they have flags or not."
)
thresholds_crossed = Gauge("reconcal_thresholds_crossed", "Companies beyond a threshold.", ["threshold"])
webhooks_silent = Gauge(
    "reconcal_webhooks_silent", "Companies whose webhook is silent; mails about single orphans wait."
)
flags_without_recipient = Counter("reconcal_flags_without_recipient", "Flags of companies that have nobody to tell.")
flags_unreadable = Counter("reconcal_flags_unreadable", "Records on the topic of flags that are no flags.")
sweep_retries = Counter("reconcal_sweep_retries", "Records that a sweep had Cal.com asked about again.", ["kind"])
webhooks_unseen = Counter("reconcal_webhooks_unseen", "New bookings that the poll had found and no webhook told of.")
checks = Counter(
    "reconcal_checks", "Questions that were taken up: the verdict, or `put_back`, and why.", ["verdict", "reason"]
)
check_seconds = Histogram(
    "reconcal_check_seconds",
    "From the moment that a question was to be asked to its answer in Kafka.",
    ["priority"],
    buckets=(0.1, 0.25, 0.5, 1, 2, 5, 15, 60, 300, 1800),
)
verifications_waiting = Gauge(
    "reconcal_verifications_waiting", "Questions that Cal.com was not asked yet, of all companies.", ["priority"]
)
verification_oldest_seconds = Gauge(
    "reconcal_verification_oldest_seconds", "How long a question has waited at most since it was to be asked."
)
calcom_poll_age_seconds = Gauge(
    "reconcal_calcom_poll_age_seconds", "How long ago a company's bookings were read through the API, at most."
)
calcom_not_now = Counter(
    "reconcal_calcom_not_now", "Questions that Cal.com was not, or could not be, asked.", ["reason"]
)
calcom_breaker_open = Gauge(
    "reconcal_calcom_breaker_open", "1: nobody but a probe asks Cal.com with this key; no series: all do.", ["budget"]
)
calcom_incidents = Gauge(
    "reconcal_calcom_incidents", "Companies for which Cal.com cannot be asked, by what has to be mended.", ["kind"]
)
api_requests = Counter(
    "reconcal_calcom_requests", "Requests to Cal.com's API, by what became of them.", ["call", "outcome"]
)
api_seconds = Histogram(
    "reconcal_calcom_request_seconds",
    "From a request to Cal.com's API to the last byte of its answer.",
    ["call"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
loop_failures = Counter("reconcal_loop_failures", "Loops that ended with an error and were tried again.", ["loop"])

Log = structlog.stdlib.BoundLogger


def configure_logs(settings: Settings) -> None:
    """Write logs to stderr, JSON or text; the libraries' own from warning on."""
    renderer: Any = structlog.processors.JSONRenderer()
    if settings.log_format == "text":
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    theirs = max(level, logging.WARNING)
    logging.basicConfig(stream=sys.stderr, level=theirs, format="%(levelname)s %(name)s %(message)s")
    for chatty in ("aiokafka", "mail.log", "asyncio", "asyncpg"):
        logging.getLogger(chatty).setLevel(logging.CRITICAL)  # their errors reach us as exceptions and are counted


def log() -> Log:
    """Give the logger; call it when you log, not at import."""
    logger: Log = structlog.get_logger()
    return logger
