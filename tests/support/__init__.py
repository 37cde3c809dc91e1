"""Makers of what the tests look at: media, models, libraries and what damages them."""
