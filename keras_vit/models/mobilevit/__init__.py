"""MobileViT and MobileViTV2."""
