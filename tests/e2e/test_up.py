"""`reconcal up` as a user has it: one process, real HTTP, real mails, and other commands from another terminal."""

import hashlib
import hmac
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from email import message_from_string
from email.policy import default
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any, TypeVar

import httpx
import msgspec
import psutil
import pytest

from services.embedded.ports import free_port
from tests.support.builders import appointment_event, body, booking_cancelled, booking_created

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

T = TypeVar("T")

SECRET, TOKEN = "wh-secret-0123456789", "token-0123456789"
QUICK = {
    "RECONCAL_PROBE_INTERVAL_SECONDS": "0.5",
    "RECONCAL_LOG_LEVEL": "warning",
}


class Up:
    """A running `reconcal up` of a user with a home of their own."""

    def __init__(self, home: Path, data_dir: Path, **environ: str) -> None:
        plain = {name: value for name, value in os.environ.items() if not name.startswith("RECONCAL_")}
        self.environ = plain | {"XDG_DATA_HOME": str(home)} | QUICK | environ
        self.data = data_dir
        self.said = data_dir.with_name(f"{data_dir.name}.log")
        with self.said.open("wb") as log:
            self.process = subprocess.Popen(
                [*RECONCAL, "up", "--data-dir", str(data_dir), "--json"],
                env=self.environ,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.said.read_text()
        self.at: dict[str, Any] = msgspec.json.decode(line)

    def call(self, *arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
        """Run another command in the user's other terminal."""
        return reconcal(self.environ | environ, *arguments)

    def add(self, company_id: str, *options: str) -> None:
        secrets = ["--webhook-secret", SECRET, "--ingest-token", TOKEN, "--window-seconds", "1"]
        mails = ["--group-wait-seconds", "0.5", "--group-interval-seconds", "0.5"]
        added = self.call("companies", "add", company_id, "--name", "Praxis", *secrets, *mails, *options)
        assert added.returncode == 0, added.stderr
        eventually(lambda: self.webhook(company_id, {"triggerEvent": "PING"}).is_success)

    def webhook(self, company_id: str, content: object) -> httpx.Response:
        raw = body(content)
        signature = hmac.new(SECRET.encode(), raw, hashlib.sha256).hexdigest()
        url = f"{self.at['ingest']}/webhooks/calcom/{company_id}"
        return httpx.post(url, content=raw, headers={"x-cal-signature-256": signature})

    def event(self, company_id: str, content: object) -> httpx.Response:
        url = f"{self.at['ingest']}/events/appointments/{company_id}"
        return httpx.post(url, content=body(content), headers={"authorization": f"Bearer {TOKEN}"})

    def records(self, company_id: str) -> list[dict[str, Any]]:
        listed = self.call("records", "--company", company_id, "--json")
        assert listed.returncode == 0, listed.stderr
        return [msgspec.json.decode(line) for line in listed.stdout.splitlines()]

    def record(self, company_id: str, appointment_id: str) -> dict[str, Any]:
        found = [r for r in self.records(company_id) if (r["appointment"] or {}).get("id") == appointment_id]
        return found[0] if len(found) == 1 else {"calcom_sync_status": f"{len(found)} records"}

    def becomes(self, company_id: str, appointment_id: str, status: str) -> dict[str, Any]:
        """Wait until an appointment's record has a status."""
        record = eventually(lambda: only_if(self.record(company_id, appointment_id), status))
        assert record is not None, self.record(company_id, appointment_id)
        return record

    def mails(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = httpx.get(f"{self.at['mailbox']}/messages").json()
        return found

    def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, float]:
        """End it; gives exit code and seconds."""
        started = monotonic()
        self.process.send_signal(number)
        code = self.process.wait(20)
        return code, monotonic() - started

    def close(self) -> bytes:
        """Kill what is left; gives what else it said on stdout."""
        if self.process.poll() is None:
            self.process.kill()
        return self.process.communicate()[0]


RECONCAL = (sys.executable, "-m", "services.cli")


def reconcal(environ: Mapping[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*RECONCAL, *arguments], env=environ, capture_output=True, text=True, check=False, timeout=30)


def eventually(look: Callable[[], T], *, seconds: float = 20) -> T:
    """Look until something is there; gives the last look."""
    until, found = monotonic() + seconds, look()
    while not found and monotonic() < until:
        Event().wait(0.1)
        found = look()
    return found


def only_if(record: dict[str, Any], status: str) -> dict[str, Any] | None:
    return record if record["calcom_sync_status"] == status else None


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    folder = tmp_path_factory.mktemp("up")
    running = Up(folder / "home", folder / "data")
    running.add("acme", "--contact", "Mia Muster <mia@example.com>", "--role", "admin", "--language", "de")
    yield running
    running.close()


def test_everything_answers_where_the_line_says(up: Up) -> None:
    """The line has these keys and no others; a service without an address in it is ready all the same."""
    assert list(up.at) == ["ingest", "console", "kafka", "postgres", "smtp", "mailbox"]
    assert httpx.get(f"{up.at['ingest']}/readyz").status_code == 200
    assert isinstance(up.mails(), list)
    assert httpx.get(f"{up.at['console']}/readyz").status_code == 200
    assert up.call("status").returncode == 0


def test_its_spool_lies_in_the_data_directory(up: Up) -> None:
    assert (up.data / "spool" / "ingest-0.sqlite").exists()
    assert "reconcal_spool_max_bytes" in httpx.get(f"{up.at['ingest']}/metrics").text


def test_a_webhook_and_its_appointment_become_one_synced_record(up: Up) -> None:
    assert up.webhook("acme", booking_created("uid-a", booking_id=1)).status_code == 202
    assert up.event("acme", appointment_event("created", "a", calcom_booking_uid="uid-a")).status_code == 202
    record = up.becomes("acme", "a", "synced")
    assert record["booking"]["uid"] == "uid-a"
    assert record["booking"]["chain"] == ["uid-a"]
    assert record["company_id"] == "acme"
    assert record["match_rule"] == "booking"
    assert (record["sync_error_code"], record["requires_manual_review"]) == (None, False)
    assert "uid-a" in up.call("records", "--company", "acme", "--status", "synced").stdout


def test_a_lone_appointment_is_flagged_and_mailed(up: Up) -> None:
    assert up.event("acme", appointment_event("created", "b")).status_code == 202
    record = up.becomes("acme", "b", "orphaned_local")
    assert record["sync_error_code"] == "ORPHANED_LOCAL"
    assert record["requires_manual_review"] is True
    assert record["manual_review_flagged_at"].endswith("Z")
    mail = eventually(lambda: [mail for mail in up.mails() if "#b" in mail["subject"]])[0]
    assert mail["to"] == ["mia@example.com"]
    assert mail["subject"] == "Cal.com Sync Issue: Appointment #b"


def test_a_mail_leads_to_the_page_that_ends_mails_and_only_a_click_ends_them(up: Up) -> None:
    """Scenario 74 from the mail on: a scanner follows its links, then a mail program unsubscribes (RFC 8058)."""

    def delivery() -> str:
        listed = up.call("companies", "contacts", "list", "quiet", "--json")
        return str(msgspec.json.decode(listed.stdout)["delivery"])

    up.add("quiet", "--contact", "Ida <ida@example.com>", "--role", "admin", "--language", "de")
    assert up.event("quiet", appointment_event("created", "q")).status_code == 202
    found = eventually(lambda: [mail for mail in up.mails() if mail["to"] == ["ida@example.com"]])[0]
    mail = message_from_string(found["raw"], policy=default)
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    link = mail["List-Unsubscribe"].strip("<>")
    assert link.startswith(f"{up.at['console']}/preferences/")
    assert "Alle E-Mails abbestellen" in httpx.get(link).text
    assert delivery() == "immediate"
    clicked = httpx.post(link, data={"List-Unsubscribe": "One-Click"})
    assert clicked.status_code == 200
    assert "Sie bekommen keine E-Mails mehr" in clicked.text
    assert delivery() == "none"


def test_a_wrong_signature_is_refused(up: Up) -> None:
    url = f"{up.at['ingest']}/webhooks/calcom/acme"
    answer = httpx.post(url, content=b"{}", headers={"x-cal-signature-256": "0" * 64})
    assert answer.status_code == 401


def test_another_terminal_finds_the_stack_by_home_by_directory_and_by_database(up: Up, tmp_path: Path) -> None:
    for options, environ in (
        ([], {}),
        (["--data-dir", str(up.said.with_name("data"))], {"XDG_DATA_HOME": str(tmp_path)}),
        ([], {"RECONCAL_POSTGRES_DSN": up.at["postgres"]}),
    ):
        rotated = up.call(
            "companies",
            "rotate-secret",
            "acme",
            "--purpose",
            "app-webhook",
            "--keep-old-seconds",
            "0",
            *options,
            **environ,
        )
        assert rotated.returncode == 0, rotated.stderr


def test_a_key_that_does_not_fit_the_database_is_refused(up: Up) -> None:
    key = up.call("config", "--new-secret-key").stdout.strip()
    said = up.call("companies", "add", "other", "--name", "Other", RECONCAL_SECRET_KEY=key)
    assert said.returncode == 2
    assert said.stderr == "reconcal: RECONCAL_SECRET_KEY: does not fit the secrets in the database\n"


def test_a_company_that_is_not_there_has_no_records(up: Up) -> None:
    said = up.call("records", "--company", "nobody", "--json")
    assert (said.returncode, said.stdout, said.stderr) == (1, "", "reconcal: there is no company 'nobody'\n")


def test_status_says_that_the_broker_is_away(up: Up) -> None:
    said = up.call("status", RECONCAL_KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1")
    assert said.returncode == 1
    assert "Kafka does not answer" in said.stdout
    assert said.stderr == ""


def test_what_cannot_be_understood_is_listed_as_a_dead_letter(up: Up) -> None:
    up.webhook("acme", ["no", "envelope"])
    listed = eventually(lambda: up.call("dead-letters", "list", "--company", "acme", "--json").stdout)
    letter = msgspec.json.decode(listed.splitlines()[0])
    assert (letter["topic"], letter["reason"]) == ("calcom.bookings.v1", "no_envelope")


def test_companies_are_changed_listed_and_removed(up: Up) -> None:
    assert up.call("companies", "add", "short", "--name", "Short").returncode == 0
    assert up.call("companies", "set", "short", "--window-seconds", "60", "--name", "Shorter").returncode == 0
    assert (
        up.call("companies", "contacts", "add", "short", "Tom <tom@example.com>", "--role", "manager").returncode == 0
    )
    contact = msgspec.json.decode(up.call("companies", "contacts", "list", "short", "--json").stdout)
    assert (contact["email"], contact["role"]) == ("tom@example.com", "manager")
    listed = [msgspec.json.decode(line) for line in up.call("companies", "list", "--json").stdout.splitlines()]
    assert [(c["name"], c["window_seconds"]) for c in listed if c["company_id"] == "short"] == [("Shorter", 60.0)]
    assert up.call("companies", "remove", "short", "--yes").returncode == 0
    assert "short" not in up.call("companies", "list", "--json").stdout


def test_a_restart_keeps_the_records_and_goes_on_though_the_broker_forgot(tmp_path: Path) -> None:
    first = Up(tmp_path / "home", tmp_path / "data")
    first.add("acme", "--contact", "Mia <mia@example.com>")
    first.webhook("acme", booking_created("uid-a", booking_id=1))
    first.event("acme", appointment_event("created", "a", calcom_booking_uid="uid-a"))
    first.becomes("acme", "a", "synced")
    code, seconds = first.end()
    assert code == 0
    assert seconds < 10
    assert first.close() == b""

    second = Up(tmp_path / "home", tmp_path / "data")
    assert second.record("acme", "a")["calcom_sync_status"] == "synced"
    eventually(lambda: second.webhook("acme", booking_cancelled("uid-a", booking_id=1)).status_code == 202)
    assert second.event("acme", appointment_event("created", "b")).status_code == 202
    assert second.becomes("acme", "a", "failed")["sync_error_code"] == "DATA_MISMATCH"
    second.becomes("acme", "b", "orphaned_local")
    eventually(lambda: all(any(name in mail["text"] for mail in second.mails()) for name in ("#a", "#b")))
    assert second.call("status").returncode == 0

    family = psutil.Process(second.process.pid).children(recursive=True)
    assert len(family) > 2
    second.end(signal.SIGKILL)
    assert eventually(lambda: not any(child.is_running() and child.status() != "zombie" for child in family))
    second.close()


class MuteCalcom:
    """A Cal.com that takes every connection and never says a word."""

    def __init__(self, server: socket.socket) -> None:
        self.base_url = f"http://127.0.0.1:{server.getsockname()[1]}/v2"
        self._server = server
        self._held: list[socket.socket] = []

    def asked(self) -> Iterator[bytes]:
        """Wait for what is asked next: the first line of each request."""
        while True:
            connection, _ = self._server.accept()
            connection.settimeout(20)
            self._held.append(connection)
            with connection.makefile("rb") as request:
                yield request.readline()

    def hang_up(self) -> None:
        for connection in self._held:
            connection.close()


@pytest.fixture
def mute_calcom() -> Iterator[MuteCalcom]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        mute = MuteCalcom(server)
        yield mute
        mute.hang_up()


def test_a_record_waits_for_cal_com_and_a_question_under_way_holds_up_no_stop(
    tmp_path: Path, mute_calcom: MuteCalcom
) -> None:
    """Without an answer nobody is accused, and within 10 s of SIGTERM it has ended."""
    port = free_port()
    (tmp_path / "key").write_text("cal_0123456789\n")
    running = Up(
        tmp_path / "home",
        tmp_path / "data",
        RECONCAL_VERIFIER_PORT=f"{port}",
        RECONCAL_CALCOM_POLL_SECONDS="3600",
    )
    assert httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
    running.add("acme", "--calcom-api-key-file", str(tmp_path / "key"), "--calcom-base-url", mute_calcom.base_url)
    assert running.event("acme", appointment_event("created", "a", calcom_booking_uid="uid-a")).status_code == 202
    record = running.becomes("acme", "a", "verification_pending")
    assert (record["sync_error_code"], record["requires_manual_review"]) == (None, False)
    assert any(b"/bookings/uid-a" in line for line in mute_calcom.asked())
    code, seconds = running.end()
    assert (code, seconds < 10) == (0, True)
    assert running.close() == b""
    assert "Traceback" not in running.said.read_text()


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    running = Up(tmp_path / "home", tmp_path / "data")
    running.process.send_signal(signal.SIGTERM)
    code, seconds = running.end(signal.SIGINT)
    assert code == 130
    assert seconds < 1.5
    running.close()


def test_a_port_that_is_taken_is_named(up: Up, tmp_path: Path) -> None:
    port = up.at["ingest"].rpartition(":")[2]
    for command in (["up", "--data-dir", str(tmp_path / "data")], ["ingest"]):
        environ = {"RECONCAL_INGEST_PORT": port, "RECONCAL_KAFKA_BOOTSTRAP_SERVERS": up.at["kafka"]}
        said = up.call(*command, RECONCAL_POSTGRES_DSN=up.at["postgres"], **environ)
        assert said.returncode == 2
        assert said.stderr == f"reconcal: RECONCAL_INGEST_PORT: 127.0.0.1:{port}: Address already in use\n"


def test_a_broker_that_was_given_and_is_away_ends_it_in_one_line(tmp_path: Path) -> None:
    environ = {"XDG_DATA_HOME": str(tmp_path), "RECONCAL_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"} | {"PATH": os.defpath}
    said = reconcal(environ, "up", "--data-dir", str(tmp_path / "data"), "--json")
    assert (said.returncode, said.stdout) == (1, "")
    assert said.stderr.splitlines()[-1].startswith("reconcal: Kafka does not answer: ")
    assert "Traceback" not in said.stderr


@pytest.mark.kafka
def test_on_an_apache_kafka_that_was_given_the_same_holds(apache_kafka: str, tmp_path: Path) -> None:
    """The partitions come from the group there; when the line is printed they have been given out."""
    given = {"RECONCAL_KAFKA_BOOTSTRAP_SERVERS": apache_kafka, "RECONCAL_KAFKA_TOPIC_PREFIX": f"{tmp_path.name}-"}
    running = Up(tmp_path / "home", tmp_path / "data", **given)
    assert running.at["kafka"] == apache_kafka
    running.add("acme", "--contact", "Mia <mia@example.com>")
    assert running.webhook("acme", booking_created("uid-a", booking_id=1)).status_code == 202
    assert running.event("acme", appointment_event("created", "a", calcom_booking_uid="uid-a")).status_code == 202
    assert running.event("acme", appointment_event("created", "b")).status_code == 202
    running.becomes("acme", "a", "synced")
    running.becomes("acme", "b", "orphaned_local")
    assert len(eventually(running.mails)) == 1
    assert running.call("status").returncode == 0
    code, seconds = running.end()
    assert (code, seconds < 10) == (0, True)
    running.close()


def test_a_sample_mail_goes_the_way_that_the_stacks_mails_go(up: Up) -> None:
    up.add("sampled", "--contact", "Sam <sam@example.com>")
    said = up.call("notify", "test", "--company", "sampled", "--to", "sam@example.com")
    assert (said.returncode, said.stderr) == (0, "")
    assert up.at["smtp"] in said.stdout
    assert eventually(lambda: [mail for mail in up.mails() if mail["to"] == ["sam@example.com"]])
