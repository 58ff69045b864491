"""What travels between two dnsqmon, and the feed that receives it."""
