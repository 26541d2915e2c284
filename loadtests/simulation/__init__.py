"""One master and several slaves in a world of seeded accidents, with the real core inside.

Time, network, disks and clocks are simulated; hashing, buffers, both roles, sessions, encodings and
the comparison are the ones that nodes run. A history is a few hundred accidents from one seed; an
oracle that knows only the senders' responses judges it from outside (:mod:`.oracle`).

``python -m loadtests.simulation --histories 5000 --seed 1`` runs many and prints the totals.
"""
