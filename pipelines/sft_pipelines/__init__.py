"""Pipelines, compiled templates and the command line of vertex-sft."""
