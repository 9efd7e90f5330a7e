"""The implementations of others that are timed beside ours, and who is timed at which size."""
