"""From the query to its score and flags."""
