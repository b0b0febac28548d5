"""EfficientViT of Microsoft Research."""
