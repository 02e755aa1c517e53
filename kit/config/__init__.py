"""Settings that operators may change while processes run: typed values with bounds, and feature flags."""
