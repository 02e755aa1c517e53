"""Pictures of metrics: heat maps as SVG and PNG."""
