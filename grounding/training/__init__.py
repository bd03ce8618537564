"""LoRA training on a snapshot: settings, batches, loss, the run itself."""
