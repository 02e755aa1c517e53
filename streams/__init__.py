"""From frames to exact windows and sessions: kernels, the pure step, the commit, and who runs them."""
