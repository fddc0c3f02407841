"""What the tests share. Nothing here tests anything; no folder of tests imports from another one.

Without a server: local (a Host whose shell is this machine's), programs (tools that lie or are missing).
Servers: sshd, servers (other than OpenSSH), hosts (several on one machine), network, proxy, web, accounts,
filesystems.
What is deployed, and where: project (a folder with config.yaml, and `fab` in it), site (the Python API),
trees, django, examined (what the diagnosis looks at), host_matrix (hosts as people have them).
Looking: fab (a command and what it left), listening (events and errors), waiting, skipping.
"""
