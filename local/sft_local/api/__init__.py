"""The routes of the local Vertex AI, one module for each service."""
