"""The face that splunkd starts, and what it alone needs."""
