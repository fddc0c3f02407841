"""The servers and the bad network that tests run against."""
