"""How values are written: addresses, attributes, JSON, moments, texts."""
