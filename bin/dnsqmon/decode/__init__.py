"""From the captured frame to the DNS question, without any input or output."""
