"""ViT, DeiT and DeiT III."""
