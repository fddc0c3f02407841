"""Deploy from a script of one's own, look at what is live now, and take it back if that isn't right.

    pip install .    # in a clone of the repository
    python deploy_script.py config.yaml user@host:port KEY_FILE

deploy() and rollback() raise ConfigError before anything is contacted; whatever happens on hosts is in
the Outcome they return: ok, exit_code (as fab's), error, and for each host what became of it.
"""

import sys
import urllib.request
from pathlib import Path

from switchover import Target, deploy, load, rollback

config, address, key, *page = sys.argv[1:]
settings, hosts = load(Path(config)), [Target(address, identity=key)]
outcome = deploy(settings, hosts)
if outcome.ok and page and b"</html>" not in urllib.request.urlopen(page[0], timeout=10).read():
    outcome = rollback(settings, hosts)
for host in outcome.hosts:
    print(host.host, host.release, "live" if host.ok else host.error)  # noqa: T201
sys.exit(outcome.exit_code)
