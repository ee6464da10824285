"""Ask a model by hand: every way in which an endpoint answers, every sampling parameter."""
