"""A training run: its loop, folder, checkpoints, callbacks and progress."""
