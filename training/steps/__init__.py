"""What changes a training step: SAM, recomputation, several image sizes."""
