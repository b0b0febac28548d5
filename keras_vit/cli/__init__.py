"""The `keras-vit` command, one module for each subcommand."""
