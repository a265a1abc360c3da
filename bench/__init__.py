"""Measures the dispatcher beside its own parts: `python -m bench`; see docs/explanation/performance.md."""
