"""Benchmarks: each writes ``results/<name>.json`` through ``_report``; run them with ``python dev.py bench``."""
