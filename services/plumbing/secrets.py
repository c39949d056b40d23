"""Secrets at rest: encrypted under a key from the configuration, never printed."""

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from services.plumbing.settings import SettingsError


class Vault:
    """Encrypts and decrypts under RECONCAL_SECRET_KEY; several keys make a change of key possible."""

    def __init__(self, keys: str) -> None:
        """`keys`: Fernet keys with commas. Raises SettingsError that names the setting, never the key."""
        if not keys:
            raise SettingsError("RECONCAL_SECRET_KEY is not set; `reconcal config --new-secret-key` makes one")
        try:
            self._fernet = MultiFernet([Fernet(key.strip()) for key in keys.split(",")])
        except ValueError:
            raise SettingsError("RECONCAL_SECRET_KEY: not a Fernet key (32 bytes, base64url)") from None

    def close(self, secret: str) -> bytes:
        """Encrypt."""
        return self._fernet.encrypt(secret.encode())

    def open(self, ciphertext: bytes) -> str:
        """Decrypt. Raises SettingsError if none of the keys fits."""
        try:
            return self._fernet.decrypt(ciphertext).decode()
        except InvalidToken:
            raise SettingsError("RECONCAL_SECRET_KEY: does not fit the secrets in the database") from None


def new_key() -> str:
    """Make a new key."""
    return Fernet.generate_key().decode()
