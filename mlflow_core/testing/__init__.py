"""What others test their own backends, sources and specs with: contract suites, strategies, the oracle."""
