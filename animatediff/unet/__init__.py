"""Any host's UNet: its places, and what of its work can be shared or left out. No motion."""
