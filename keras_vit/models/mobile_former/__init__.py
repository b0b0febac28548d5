"""Mobile-Former."""
