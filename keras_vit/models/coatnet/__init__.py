"""CoAtNet."""
