"""Everything that decides: values in, values out; no loop, no network, no clock, no chance."""
