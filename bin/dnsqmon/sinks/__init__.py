"""Where records go: one module a kind of sink."""
