"""What pyproject.toml can't say: all packages below fabfile/, under the name that they are installed by."""

import tempfile

from setuptools import find_packages, setup

# Not ./build: what an earlier installation has left there would be installed again.
with tempfile.TemporaryDirectory() as scratch:
    setup(
        packages=["switchover", *(f"switchover.{name}" for name in find_packages("fabfile"))],
        options={"build": {"build_base": scratch}},
    )
