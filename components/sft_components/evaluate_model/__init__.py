"""Compare the tuned model with its base on held-out rows."""
