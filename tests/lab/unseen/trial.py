"""One drawn fault: it is made, the diagnosis looks, a deployment is tried, and both are compared."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Literal

from tests.lab.unseen.kinds import KINDS, Claim, Kind, files, logins, shells, ways  # noqa: F401  (they add)
from tests.lab.unseen.recipe import Host, Recipe
from tests.support.examined import ExaminedHost

TWO_AT_ONCE = 0.25  # share of the drawn ones
PROMISED = 60.0  # seconds, for one diagnosis
STARTS_WITHIN = 3.0  # seconds: Python's own, which a busy machine takes
KILLED_AFTER = 100.0
OURS = ("this is a mistake of Switchover's", "Traceback (most recent call last)", "made a mistake")
Score = Literal["first", "three", "unexplained", "wrong", "works", "crash", "not made"]
Truth = Literal["works", "fails", "no end"]


@dataclass(frozen=True)
class Drawn:
    """A fault, or two of different parts. number: its place in the seed's row."""

    seed: int
    number: int
    kinds: tuple[Kind, ...]
    claims: tuple[Claim, ...]
    recipe: Recipe

    @property
    def name(self) -> str:
        """What was made, for a person."""
        return " + ".join(f"{k.name}: {c.text}" for k, c in zip(self.kinds, self.claims, strict=True))

    @property
    def right(self) -> frozenset[str]:
        """Each is a right answer; with two faults either may come first."""
        return frozenset().union(*(claim.ids for claim in self.claims))

    @property
    def quiet(self) -> bool:
        """Whether no finding is right too, where deployments work."""
        return all(claim.quiet for claim in self.claims)


def draw(seed: int, number: int) -> Drawn:
    """The same for the same seed and number, on a machine that has the same programs."""
    random = Random(f"{seed}/{number}")
    can = [kind for kind in KINDS if kind.can]
    kinds = random.choices(can, [kind.weight for kind in can])
    if random.random() < TWO_AT_ONCE:
        others = [kind for kind in can if kind.part != kinds[0].part]
        kinds += random.choices(others, [kind.weight for kind in others])
    recipe = Recipe()
    recipe.deployed = random.random() < 0.4
    claims = tuple(kind.make(random, recipe) for kind in kinds)
    return Drawn(seed, number, tuple(kinds), claims, recipe)


@dataclass(frozen=True)
class Result:
    """named: what was found wrong, in its order; seconds: the diagnosis took; said: its verdict."""

    drawn: Drawn
    score: Score
    named: tuple[str, ...]
    truth: Truth | None
    ok: bool
    seconds: float
    said: str

    @property
    def late(self) -> bool:
        """Whether it took longer than it may."""
        return self.seconds > PROMISED + STARTS_WITHIN + (self.drawn.recipe.deep or 0)

    @property
    def alarm(self) -> bool:
        """Whether it says that deployments fail, and one has worked."""
        return not self.ok and self.truth == "works"


def tried(drawn: Drawn) -> Result:
    """Make it, diagnose, deploy. What could not be made here is told as that."""
    try:
        with drawn.recipe.made() as host:
            return _judged(drawn, host)
    except Exception as error:  # noqa: BLE001  (told in the table)
        return Result(drawn, "not made", (), None, True, 0.0, f"{type(error).__name__}: {error}"[-300:])


def _judged(drawn: Drawn, host: Host) -> Result:
    place = host.place
    started = time.monotonic()
    deep = drawn.recipe.deep
    words = ["diagnose", "--json", *(["--deep", f"--wait={deep:g}"] if deep else [])]
    (place.folder / "config.yaml").write_text(json.dumps(place.settings))
    code, out, err = _fab(place, words)
    seconds = time.monotonic() - started
    truth: Truth | None = None
    try:
        (entry,) = json.loads(out)["hosts"]
    except (ValueError, KeyError):
        return Result(drawn, "crash", (), truth, False, seconds, f"exit {code}: {(out + err)[-300:]}")
    bad = [f for f in entry["findings"] if f["status"] in ("fail", "warn")]
    named, said, ok = tuple(f["id"] for f in bad), str(entry["verdict"]["what"]), bool(entry["ok"])
    text = f"{out}{err}"
    if any(word in text for word in OURS) or code not in (0, 1):
        where = next((text.index(word) for word in OURS if word in text), 0)
        return Result(drawn, "crash", named, truth, ok, seconds, f"exit {code}: {text[where : where + 300]}")
    for forget in drawn.recipe.anew:
        forget(host)
    truth = _deployment(place)
    return Result(drawn, _score(drawn, named, ok, truth), named, truth, ok, seconds, said)


def _score(drawn: Drawn, named: Sequence[str], ok: bool, truth: Truth) -> Score:
    if ok and truth == "fails":
        return "works"
    if set(named[:1]) & drawn.right or (not named and drawn.quiet):
        return "first"
    if set(named[:3]) & drawn.right:
        return "three"
    return "unexplained" if named[:1] == ("unexplained",) else "wrong"


def _deployment(place: ExaminedHost) -> Truth:
    """What becomes of a small real deployment to the same host, in the same way."""
    words = ["deploy", "--json", "--source", str(place.source())]
    code, _, _ = _fab(place, words)
    return "no end" if code is None else "fails" if code else "works"


def _fab(place: ExaminedHost, words: list[str]) -> tuple[int | None, str, str]:
    """Exit code (None: it had to be killed), what it printed, and what it said besides."""
    try:
        done = place.fab_run(words, KILLED_AFTER)
    except subprocess.TimeoutExpired as error:
        return None, *((x or b"").decode("utf-8", "replace") for x in (error.stdout, error.stderr))
    return done.returncode, done.stdout, done.stderr


def explained(result: Result) -> dict[str, Any]:
    """A Result for a file that a program reads."""
    return {
        "fault": result.drawn.name, "number": result.drawn.number, "right": sorted(result.drawn.right),
        "quiet": result.drawn.quiet, "score": result.score, "named": result.named, "deployment": result.truth,
        "ok": result.ok, "seconds": round(result.seconds, 1), "said": result.said,
    }  # fmt: skip
