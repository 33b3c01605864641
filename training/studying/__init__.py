"""Studies in parts, one concept a module; :mod:`training.study` is their public face.

From the document (``document``, ``shelf``) come jobs with keys (``job``, ``planning``, ``inputs``), which processes take in
turn (``leases``, ``records``, ``taking``, ``running``, ``workers``) and do (``doing``, ``describing``, ``scoring``). What they
leave is gathered (``results``), told (``status``, ``changes``, ``estimates``, ``showing``, ``telling``) and compared between
rungs (``ladder``).
"""
