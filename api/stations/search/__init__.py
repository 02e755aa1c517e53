"""Finding a station: by place, plug, power, text, and what is free, open and cheap now."""
