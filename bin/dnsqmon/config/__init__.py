"""What the user asked for, as one typed object."""
