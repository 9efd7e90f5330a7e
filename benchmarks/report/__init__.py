"""What comes of the results: tables, figures, goals, pages, and the check for what has become slower."""
