"""The commands of `python -m grounding`, one module each: `add` says what it takes, `run` does it."""
