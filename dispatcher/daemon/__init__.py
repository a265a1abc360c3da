"""The loops: tail, lanes, attempts, retries, rescue, housekeeping."""
