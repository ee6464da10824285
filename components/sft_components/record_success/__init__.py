"""Remember what a successful run was trained on."""
