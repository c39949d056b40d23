"""The window: pages for the companies' own people. So far the one that every mail links to: what one is mailed."""
