"""unit/ needs no server, integration/ does; hosts/ has hosts as people have them, faults/ breaks deployments,
attacks/ plants traps, lab/ tries the diagnosis, mutants/ the tests. What they share stands in support/ alone.
"""

import importlib
import importlib.abc
import importlib.machinery
import sys
import types

# Until all tests are moved: the names from before.
_MOVED = {
    "tests.lab.sshd": ["sshd"],
    "tests.lab.proxy": ["proxy"],
    "tests.lab.network": ["network"],
    "tests.lab.hosts": ["hosts"],
    "tests.lab.filesystems": ["filesystems"],
    "tests.lab.servers": ["servers"],
    "tests.lab.place": ["accounts", "programs", "examined"],
    "tests.integration.cli": ["fab", "project", "waiting", "web"],
    "tests.integration.helpers": ["site", "trees", "django", "skipping"],
}
_NAMES = {"ExaminedHost": "UploadTarget", "HealthPage": "Site", "DeployedSite": "UploadTarget"}


class _Moved(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        return importlib.machinery.ModuleSpec(name, self) if name in _MOVED else None

    def create_module(self, spec):
        return types.ModuleType(spec.name)

    def exec_module(self, module):
        for part in _MOVED[module.__name__]:
            for name, value in vars(importlib.import_module(f"tests.support.{part}")).items():
                if not name.startswith("__"):
                    setattr(module, _NAMES.get(name, name), value)


sys.meta_path.append(_Moved())
