"""The pure step: frames and state in, effects and the next state out."""
