"""Measures the dispatcher beside what it is made of: `python -m bench`; how, in docs/explanation/performance.md."""
