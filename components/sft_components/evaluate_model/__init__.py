"""Tuned model against base model on held-out rows."""
