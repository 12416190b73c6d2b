"""Read weight files and detect their kind from the tensors. No other code opens weight files."""
