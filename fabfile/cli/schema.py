"""fab schema"""

from __future__ import annotations

import json
from typing import Any

from .task import task


@task(help={}, common=False)
def schema(c: Any) -> None:
    """Print the JSON Schema of config.yaml, for editors."""
    from ..report.outlet import outlet
    from ..settings.schema import schema as config_schema

    out = outlet()
    out.write(json.dumps(config_schema(), indent=2) + "\n", always=True)
    out.drain()
