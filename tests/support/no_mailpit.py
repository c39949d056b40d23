"""What is said when there is no Mailpit to test with."""

from typing import Final

NO_MAILPIT: Final = "no Mailpit: no Go to build it with"
