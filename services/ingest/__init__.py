"""The door: is it authentic? Then keep it exactly as it came. It never interprets a booking."""
