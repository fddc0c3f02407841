"""All tasks, as the collection that Fabric lists, and that one's own fabfile takes in."""

import sys

from invoke.collection import Collection

from .cache_sync import cache_sync
from .demo import demo
from .deploy import deploy
from .diagnose import diagnose
from .init import init
from .releases import releases
from .rollback import rollback
from .schema import schema
from .unlock import unlock

ns = Collection("switchover", deploy, rollback, cache_sync, diagnose, releases, unlock, demo, init, schema)

# Where `fab` runs, it is known by now; elsewhere it need not be imported.
if "fabric.main" in sys.modules:
    from .program import adopt

    adopt(sys.modules["fabric.main"].program)
