"""Where packets or records come from: one module a kind of source."""
