"""A mirror in MLflow: runs that have ended are copied to its tracking server, and its runs taken over into our store.

MLflow is an extra and runs in a process of its own; ours is the truth, and nothing here is needed to have it.
"""
