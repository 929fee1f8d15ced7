"""What specs mean, still without doing anything: load, check, fingerprint, lineage, diff, and logical plans."""
