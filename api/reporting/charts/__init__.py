"""Heat maps of metrics as JSON, SVG and PNG."""
