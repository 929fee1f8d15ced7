"""The trainer of scikit-learn estimators."""
