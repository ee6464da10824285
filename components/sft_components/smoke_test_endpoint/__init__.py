"""Prove that an endpoint answers."""
