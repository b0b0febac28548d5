"""Options of the training step: several image sizes, recomputation, distillation and SAM."""
