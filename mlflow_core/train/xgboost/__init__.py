"""The trainer of gradient boosted trees."""
