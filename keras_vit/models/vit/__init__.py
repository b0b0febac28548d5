"""ViT, DeiT, DeiT III and DINOv2."""
