"""The command `animatediff`. torch and diffusers are imported only when a run needs them."""
