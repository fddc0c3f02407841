"""How long it takes, against what people would use instead: `inv bench` (see run.py)."""
