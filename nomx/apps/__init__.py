"""Programs on nomx, for use and as examples."""
