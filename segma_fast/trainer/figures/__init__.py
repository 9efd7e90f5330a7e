"""What is drawn: grids of images, the pictures of a finished run, those that only one model has."""
