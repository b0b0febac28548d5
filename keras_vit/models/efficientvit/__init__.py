"""EfficientViT of MIT."""
