"""Deciding which operations compute in int8 and with which ranges, and training with int8's rounding."""
