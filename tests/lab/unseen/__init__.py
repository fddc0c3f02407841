"""A second set of faults, drawn by a seed: what the diagnosis makes of what nobody has tuned it to.

kinds/ (which knob, which value) → recipe (a host that is made) → trial (diagnose, deploy, score) → run.
"""
