"""Networks that predict noise, of any host: their places, and what of their work can be shared or left out. No motion."""
