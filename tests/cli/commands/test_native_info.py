from __future__ import annotations

import json


def test_the_engine_that_is_switched_off_says_so(run_cli):
    """tests/conftest.py has switched it off."""
    code, stdout, stderr = run_cli("native", "info", "--json")
    assert (code, stderr) == (0, "")
    facts = json.loads(stdout)
    assert (facts["command"], facts["active"], facts["switch"]) == ("native info", False, "0")
    assert "active: False\nswitch: 0\n" in run_cli("native", "info")[1]
