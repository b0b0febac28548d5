"""Devices and machines to train on."""
