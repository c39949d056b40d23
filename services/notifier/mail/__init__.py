"""Letters as mails, and the way to the mail server."""
