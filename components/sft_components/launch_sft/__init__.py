"""Launch a tuning job once and follow it to its end."""
