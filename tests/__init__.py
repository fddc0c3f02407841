"""unit/ needs no server, integration/ does; hosts/ has hosts as people have them, faults/ breaks deployments,
attacks/ plants traps, lab/ tries the diagnosis, mutants/ the tests. What they share stands in support/ alone.
"""
