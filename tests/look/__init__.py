"""To be looked at by people: commands that draw what the code makes."""
