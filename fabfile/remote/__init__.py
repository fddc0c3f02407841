"""The way to a host: connections that are kept alive and made again, commands, files and detached jobs."""
