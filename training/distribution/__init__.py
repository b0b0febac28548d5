"""Train on several devices and machines."""
