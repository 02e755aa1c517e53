"""Published tariffs, compiled into tables for the kernels."""
