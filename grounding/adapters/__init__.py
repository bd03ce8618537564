"""Finished adapters: plain PEFT folders, each with its provenance in adapter.json; what can be done with them."""

from __future__ import annotations

from grounding.adapters.info import MANIFEST, AdapterInfo
from grounding.adapters.registry import AdapterRegistry

__all__ = ["MANIFEST", "AdapterInfo", "AdapterRegistry"]
