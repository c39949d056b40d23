"""The pages under docs/reference are what the code says."""

from pathlib import Path

from services.reconciler.decode.triggers import TRIGGERS, Role
from tests.support import reference


def test_the_pages_are_fresh() -> None:
    assert not reference.stale(), "stale below docs/reference; `make reference` mends it"


def test_a_stale_page_is_named_and_mended(tmp_path: Path) -> None:
    assert reference.write(tmp_path) == ["triggers.md"]
    (tmp_path / "triggers.md").write_text("old")
    assert reference.stale(tmp_path) == ["triggers.md"]
    assert reference.write(tmp_path) == ["triggers.md"]
    assert reference.stale(tmp_path) == []


def test_the_page_tells_of_every_trigger() -> None:
    page = (reference.HERE / "triggers.md").read_text("utf-8")
    assert all(f"| `{name}` |" in page for name in TRIGGERS)


def test_every_trigger_has_a_role_and_only_a_change_has_a_place_in_a_bookings_life() -> None:
    assert all((one.rank > 0) == (one.role is Role.CHANGE) for one in TRIGGERS.values())
