"""Decisions, and nothing else: no I/O, no clock, no randomness, no await.

Time and ids are handed in. The core sees `schemas` alone.
"""
