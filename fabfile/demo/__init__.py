"""The demo: a site under load, deployed to a server on this machine."""
