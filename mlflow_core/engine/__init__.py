"""How features are computed in bulk; it knows Arrow, not Feast. Read it from the top.

``retrieve`` and ``materialise`` are what others call, ``route`` is where it runs, ``inputs`` what is read, ``estimate``
and ``explain`` say so beforehand. ``views`` computes features from ``events`` with ``kernels``; ``layouts`` keeps sorted
events in ``files``; ``buckets`` does it all on the workers of a ``cluster``; ``dataset`` makes training sets of it.
"""
