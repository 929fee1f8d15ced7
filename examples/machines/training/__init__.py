"""What is learned about the machines."""
