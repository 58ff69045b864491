"""Records to text, once for each format."""
