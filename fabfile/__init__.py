"""Switchover: zero-downtime deployments over plain SSH and SFTP. `fab --list` shows the tasks below.

Scripts import `fabfile.fleet` (deploy, rollback, cache_sync, releases, unlock), `fabfile.settings` (load) and
`fabfile.diagnosis` (diagnose).
"""

from invoke.collection import Collection

from .cli.cache_sync import cache_sync
from .cli.demo import demo
from .cli.deploy import deploy
from .cli.diagnose import diagnose
from .cli.releases import releases
from .cli.rollback import rollback
from .cli.unlock import unlock

ns = Collection(deploy, rollback, cache_sync, diagnose, releases, unlock, demo)
