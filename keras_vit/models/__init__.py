"""The model families and the registry that lists them."""
