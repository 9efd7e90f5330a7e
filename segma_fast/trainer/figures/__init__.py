"""Pictures: grids of images, the pictures of a finished run, and pictures specific to one model."""
