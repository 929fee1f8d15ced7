"""What is trained on the features of ``feature_repo``."""
