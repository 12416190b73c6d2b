"""What is measured on a clip's frames as they come."""
