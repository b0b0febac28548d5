"""CaiT."""
