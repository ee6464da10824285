"""What every evaluation shares: rows, scores, the gate, the report."""
