"""The desk: load, decide, save."""
