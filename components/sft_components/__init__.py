"""What runs inside the steps of the vertex-sft pipelines."""

__version__ = "0.1.0"
