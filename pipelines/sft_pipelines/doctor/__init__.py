"""What `vertex-sft doctor` looks at, one module for each kind of thing."""
