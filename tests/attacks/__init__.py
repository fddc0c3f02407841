"""Attacks on deployments: what somebody may plant on a host or in a source, and what must not come of it."""
