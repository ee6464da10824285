"""Run a compiled template on this machine against the local Vertex AI."""
