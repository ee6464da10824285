"""Deploy a tuned checkpoint to an endpoint."""
