"""Files of weights: the only code that opens them, and what they are, told by their tensors."""
