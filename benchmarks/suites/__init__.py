"""What ``make bench`` and ``make bench-large-batch`` measure."""
