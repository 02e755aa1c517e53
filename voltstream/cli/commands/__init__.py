"""The commands, one module each: options in, a call, output. What they do stands elsewhere."""
