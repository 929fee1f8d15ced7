"""In what order, once: build a dataset, train, evaluate, gate, register, and write down each step."""
