"""Questions that are answered once in a while, each with a page or a part of one in docs/."""
