"""Say whether a data set has changed since the last successful run."""
