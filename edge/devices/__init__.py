"""Running files on devices: verification, audit, and benchmark."""
