"""The graphs that all pipelines share: their stages, and what each stage holds."""
