"""The exact distance along random directions: O(m·R) operations for m rows and R directions instead of O(m²)."""
