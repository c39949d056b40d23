"""How commands find a running `reconcal up`, and what `status` makes of an installation."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from services.cli.context import settings_for
from services.cli.picture import Partition, Picture, judge
from services.embedded.play import sign_standard
from services.embedded.readiness import Addresses
from services.embedded.stack import _unless
from services.embedded.state import NotReady, StackError, StackState, default_data_dir, ensure_key, read, running, write

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """The environment of a user."""
    return {"XDG_DATA_HOME": str(tmp_path / "home")}


@pytest.fixture
def stacks() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def run_one(stacks: ExitStack, home: dict[str, str], data_dir: Path, port: int) -> str:
    """Pretend that a stack runs on a data directory; gives its secret key."""
    stacks.enter_context(running(data_dir, default_data_dir(home)))
    settings = {"postgres_dsn": dsn(port), "kafka_bootstrap_servers": f"127.0.0.1:{port + 1}"}
    settings |= {"ingest_public_url": f"http://127.0.0.1:{port + 2}"}
    write(data_dir, StackState(pid=os.getpid(), settings=settings, addresses={}))
    return ensure_key(data_dir)


def dsn(port: int) -> str:
    return f"postgresql://reconcal:secret@127.0.0.1:{port}/reconcal"


def test_a_stack_on_the_default_directory_is_found_by_itself(stacks: ExitStack, home: dict[str, str]) -> None:
    key = run_one(stacks, home, default_data_dir(home), 5000)
    settings = settings_for(environ=home)
    assert settings.postgres_dsn == dsn(5000)
    assert settings.kafka_bootstrap_servers == "127.0.0.1:5001"
    assert settings.ingest_public_url == "http://127.0.0.1:5002"
    assert settings.secret_key == key


def test_the_only_stack_that_runs_is_found_wherever_it_lies(
    stacks: ExitStack, home: dict[str, str], tmp_path: Path
) -> None:
    run_one(stacks, home, tmp_path / "a", 5000)
    assert settings_for(environ=home).postgres_dsn == dsn(5000)


def test_of_several_stacks_one_has_to_be_named(stacks: ExitStack, home: dict[str, str], tmp_path: Path) -> None:
    run_one(stacks, home, tmp_path / "a", 5000)
    key = run_one(stacks, home, tmp_path / "b", 6000)
    with pytest.raises(StackError, match="--data-dir"):
        settings_for(environ=home)
    settings = settings_for(tmp_path / "b", environ=home)
    assert (settings.postgres_dsn, settings.secret_key) == (dsn(6000), key)


def test_a_database_that_is_named_leads_to_its_stack(stacks: ExitStack, home: dict[str, str], tmp_path: Path) -> None:
    run_one(stacks, home, tmp_path / "a", 5000)
    key = run_one(stacks, home, tmp_path / "b", 6000)
    named = "postgresql://somebody@localhost:6000/reconcal"
    settings = settings_for(environ=home | {"RECONCAL_POSTGRES_DSN": named})
    assert settings.postgres_dsn == named
    assert (settings.kafka_bootstrap_servers, settings.secret_key) == ("127.0.0.1:6001", key)


def test_another_database_gets_nothing_of_a_stack(stacks: ExitStack, home: dict[str, str]) -> None:
    run_one(stacks, home, default_data_dir(home), 5000)
    settings = settings_for(environ=home | {"RECONCAL_POSTGRES_DSN": "postgresql://db.example/prod"})
    assert (settings.secret_key, settings.kafka_bootstrap_servers) == ("", "")


def test_the_environment_and_the_file_come_before_the_stack(
    stacks: ExitStack, home: dict[str, str], tmp_path: Path
) -> None:
    run_one(stacks, home, default_data_dir(home), 5000)
    file = tmp_path / "mine.toml"
    file.write_text('kafka_bootstrap_servers = "kafka:9092"\n')
    settings = settings_for(config=file, environ=home | {"RECONCAL_SECRET_KEY": "mine"})
    assert (settings.kafka_bootstrap_servers, settings.secret_key) == ("kafka:9092", "mine")
    assert settings.postgres_dsn == dsn(5000)


def test_a_stack_that_has_ended_is_not_found_however_it_ended(home: dict[str, str], tmp_path: Path) -> None:
    with ExitStack() as stacks:
        run_one(stacks, home, tmp_path / "a", 5000)
        left_behind = (tmp_path / "a" / "stack.json").read_bytes()
    assert not (tmp_path / "a" / "stack.json").exists()
    (tmp_path / "a" / "stack.json").write_bytes(left_behind)  # as after a kill -9
    assert read(tmp_path / "a") is None
    with pytest.raises(StackError, match="no `reconcal up` is running"):
        settings_for(tmp_path / "a", environ=home)


def test_two_stacks_cannot_share_a_data_directory(stacks: ExitStack, home: dict[str, str], tmp_path: Path) -> None:
    run_one(stacks, home, tmp_path / "a", 5000)
    with pytest.raises(StackError, match="another `reconcal up`"), running(tmp_path / "a", default_data_dir(home)):
        raise AssertionError


def test_key_and_state_are_readable_by_their_owner_only(
    stacks: ExitStack, home: dict[str, str], tmp_path: Path
) -> None:
    run_one(stacks, home, tmp_path / "a", 5000)
    for name in ("secret.key", "stack.json", "stack.lock"):
        assert (tmp_path / "a" / name).stat().st_mode & 0o777 == 0o600


def test_a_key_that_was_made_stays(tmp_path: Path) -> None:
    assert ensure_key(tmp_path) == ensure_key(tmp_path)


def test_a_screen_shows_no_password() -> None:
    addresses = Addresses(ingest="http://a", console="http://c", kafka="k:1", postgres=dsn(1), smtp="s:1", mailbox=None)
    assert addresses.for_people()["postgres"] == "postgresql://reconcal:***@127.0.0.1:1/reconcal"
    assert addresses.for_people()["mailbox"] == "-"


def test_the_demo_signs_as_the_reference_implementation_does() -> None:
    secret, body = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", b'{"id":"evt_1"}'
    headers = sign_standard(secret, body, int(datetime.now(UTC).timestamp()))
    assert Webhook(secret).verify(body, headers) == {"id": "evt_1"}


async def test_an_error_of_what_runs_side_by_side_goes_up_as_itself() -> None:
    """However many task groups it came through: it is one line to whoever started the stack."""

    async def fails() -> None:
        async with asyncio.TaskGroup() as outer, asyncio.TaskGroup() as inner:
            outer.create_task(asyncio.Event().wait())
            inner.create_task(refused())

    async def refused() -> None:
        raise NotReady("the front door is shut")

    with pytest.raises(NotReady, match="the front door is shut"):
        await _unless(asyncio.Event(), fails())


def partition(number: int, **over: object) -> Partition:
    plain: dict[str, object] = {"owner": "me", "next_offsets": {}, "held_decisions": 0, "stopped_reason": None}
    return Partition(partition=number, **(plain | {"heard_at": NOW, "frontier_age_seconds": 0.5} | over))  # type: ignore[arg-type]


def test_an_installation_whose_partitions_all_report_is_well() -> None:
    assert judge(Picture(at=NOW, migrations_pending=0, partitions=[partition(0), partition(1)])) == []


def test_partitions_that_nobody_reports_for_are_named_in_short() -> None:
    silent = [partition(n, heard_at=NOW - timedelta(minutes=1)) for n in (0, 1, 2, 5)]
    assert judge(Picture(at=NOW, migrations_pending=0, partitions=[*silent, partition(6)])) == [
        "no reconciler reports for partitions 0-2, 5"
    ]


def test_a_stopped_partition_and_held_decisions_are_troubles() -> None:
    parts = [partition(0, stopped_reason="100 in a row"), partition(1, held_decisions=3, frontier_age_seconds=90.0)]
    assert judge(Picture(at=NOW, migrations_pending=0, partitions=parts)) == [
        "partition 0 is stopped: 100 in a row",
        "3 decisions are held: partitions 1 are behind",
    ]


def test_decisions_that_wait_a_moment_are_no_trouble() -> None:
    parts = [partition(0, held_decisions=3, frontier_age_seconds=2.0)]
    assert judge(Picture(at=NOW, migrations_pending=0, partitions=parts)) == []


def test_migrations_that_have_not_run_are_a_trouble() -> None:
    assert judge(Picture(at=NOW, migrations_pending=1)) == ["1 migrations have not run: `reconcal migrate`"]
