"""ConvMixer."""
