"""What is learned about flights and hours."""
