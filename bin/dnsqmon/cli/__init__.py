"""The face of the command line, and its other commands."""
