"""Learn features from images without labels."""
