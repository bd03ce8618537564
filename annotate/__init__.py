"""Curation: the store of samples, repair of placeholders, import, snapshots and export."""

__version__ = "0.1.0"
