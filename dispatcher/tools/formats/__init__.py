"""Other people's descriptions of earthquakes, read for `dispatcher emit --format`."""
