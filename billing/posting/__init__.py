"""From events to documents."""
