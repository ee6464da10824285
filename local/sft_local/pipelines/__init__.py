"""Pipeline jobs of the local Vertex AI: checked, queued, run, and told task by task."""
