"""The demo of the command line and its report."""
