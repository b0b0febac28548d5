"""What changes a training step: several image sizes, recomputation, distillation and SAM."""
