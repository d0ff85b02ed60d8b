"""The ``data`` verbs, and the images of a sweep."""
