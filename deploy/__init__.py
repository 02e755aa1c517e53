"""Running voltstream elsewhere, and private real servers for tests and for trying the distributed mode."""
