"""Tuning of every family as one kind of job: found, shown, followed, cancelled."""
