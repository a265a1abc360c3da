"""Commands for people: emit, listen, history, demo."""
