from __future__ import annotations

import json


def test_models_list(run_cli):
    code, stdout, _ = run_cli("models", "list", "--json")
    assert code == 0
    rows = json.loads(stdout)["models"]
    assert {"name", "architecture", "scale", "about", "licence", "here"} <= set(rows[0])
    code, text, _ = run_cli("models", "list")
    assert all(row["name"] in text for row in rows)
