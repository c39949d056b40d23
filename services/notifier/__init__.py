"""The letter box: flags come in, the inbox and mails go out."""
