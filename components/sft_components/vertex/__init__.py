"""Clients of Vertex AI and Cloud Storage: addresses, credentials, retries, keys."""
