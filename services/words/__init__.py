"""How things are said to people, in German and English: mails, messages and pages have their words from here."""
