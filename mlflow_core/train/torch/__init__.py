"""The trainer of networks: one rank a worker, gradients averaged."""
