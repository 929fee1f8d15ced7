"""What flights out of New York are judged by."""
