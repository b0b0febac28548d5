"""Training runs: the loop, the run's folder, checkpoints, callbacks and the progress display."""
