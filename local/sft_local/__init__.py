"""Vertex AI on this machine: HTTP API, trainer, model server and storage."""
