"""What became of every packet and record, for people, files and metrics."""
