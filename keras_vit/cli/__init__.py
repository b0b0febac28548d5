"""The `keras-vit` command line. Each command is a module of the same name."""
