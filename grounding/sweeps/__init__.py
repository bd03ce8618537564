"""Sweeps: runs over ranges of settings, one after another through the queue, chosen by what earlier ones scored."""
