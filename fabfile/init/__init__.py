"""A first config.yaml, from what the project's folder and the hosts look like.

folder    what kind of project it is, and so what has to be built, shared and left out
node      the same for what npm and its kind build
host      the sites, the web server's account and the services that a host has
draft     what both come to; as text
files     writing it, and what goes with it, without ever replacing a file
"""
