"""What a training minimizes: losses and distillation."""
