"""From a prompt to an answer: the forced skeleton on a lean pass through the language model, and free generation."""
