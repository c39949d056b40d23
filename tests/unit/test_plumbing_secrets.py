"""Secrets at rest."""

import pytest

from services.plumbing.secrets import Vault, new_key
from services.plumbing.settings import SettingsError


def test_what_was_closed_opens_again_and_is_not_readable_meanwhile() -> None:
    vault = Vault(new_key())
    ciphertext = vault.close("whsec_grün")
    assert b"whsec" not in ciphertext
    assert vault.open(ciphertext) == "whsec_grün"


def test_the_first_key_encrypts_and_all_decrypt_so_that_a_key_can_be_changed() -> None:
    old, new = new_key(), new_key()
    ciphertext = Vault(old).close("s")
    assert Vault(f"{new}, {old}").open(ciphertext) == "s"
    assert Vault(new).open(Vault(f"{new},{old}").close("s")) == "s"


@pytest.mark.parametrize("keys", ["", "short", "{key},short"])
def test_a_wrong_key_is_named_by_its_setting_and_never_shown(keys: str) -> None:
    with pytest.raises(SettingsError, match="RECONCAL_SECRET_KEY") as raised:
        Vault(keys.format(key=new_key()))
    assert "short" not in str(raised.value)


def test_a_key_that_does_not_fit_says_so() -> None:
    with pytest.raises(SettingsError, match="does not fit"):
        Vault(new_key()).open(Vault(new_key()).close("s"))
