"""Running files on devices: proof, audit, measurement."""
