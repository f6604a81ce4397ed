"""Every recipe in the documentation is a valid job, and every technique is in one."""

import json
import re

from app.services.catalogue import STEPS
from app.spec.job import JobSpec
from tests.support.root import ROOT

PAGE = ROOT / "docs" / "recipes.md"
BLOCK = re.compile(r"^```json\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_recipes_are_valid_and_leave_no_technique_out() -> None:
    recipes = [json.loads(block) for block in BLOCK.findall(PAGE.read_text())]
    jobs = [JobSpec.model_validate({"model": "mdl_" + "0" * 32, "steps": recipe}) for recipe in recipes]

    shown = {type(step) for job in jobs for step in job.steps}
    assert shown == set(STEPS)
