"""DNS query monitor: frames in, scored DNS query records out."""

__version__ = "2.0.0"
