"""Endpoints as the command line shows them: what serves, for how long, for how much."""
