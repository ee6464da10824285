"""Put a new model in the place of the one that serves, without a lost request."""
