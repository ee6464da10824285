"""Check a run's settings before anything is read, sent or paid for."""
