"""iGPT."""
