"""Frames to records: decode, then score."""
