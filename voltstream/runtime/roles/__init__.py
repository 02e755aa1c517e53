"""The services, one module each: `run` is the whole process."""
