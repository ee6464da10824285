"""Tuned against base model on held-out rows, through endpoints."""
