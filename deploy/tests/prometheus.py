"""prometheus.py: what Prometheus says of the alerts, and of each question of the dashboards. Needs `promtool` (Debian's `prometheus`) in PATH.

That the metrics and labels which they name exist in the program is tested by `cargo test --test it deploy`.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

FOLDER = pathlib.Path(__file__).resolve().parents[1]
# What Grafana puts in the place of a variable.
VARIABLES = {"$__rate_interval": "1m", "$job": ".*", "$instance": ".*"}


def promtool(*args):
    ran = subprocess.run(["promtool", *map(str, args)], capture_output=True, text=True, cwd=FOLDER / "prometheus")
    if ran.returncode:
        sys.exit(f"promtool {' '.join(map(str, args))}:\n{ran.stdout}{ran.stderr}")
    return ran.stdout


def questions(dashboard):
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]
    for annotation in dashboard["annotations"]["list"]:
        yield annotation["name"], annotation["expr"]


def overlap(one, other):
    return (
        one["x"] < other["x"] + other["w"] and other["x"] < one["x"] + one["w"] and one["y"] < other["y"] + other["h"] and other["y"] < one["y"] + one["h"]
    )


def main():
    promtool("check", "rules", "alerts.yaml")
    promtool("test", "rules", "alerts_test.yaml")
    text = (FOLDER / "prometheus/alerts.yaml").read_text()
    tests = (FOLDER / "prometheus/alerts_test.yaml").read_text()
    alerts = [line.split()[-1] for line in text.splitlines() if "- alert:" in line]
    untested = [name for name in alerts if f"- name: {name}\n" not in tests]
    assert alerts and not untested, f"no test of {untested}"

    asked = 0
    for file in sorted((FOLDER / "grafana").glob("*.json")):
        dashboard = json.loads(file.read_text())
        ids = [panel["id"] for panel in dashboard["panels"]]
        assert len(ids) == len(set(ids)), f"{file.name}: an id stands twice"
        places = [(panel["title"], panel["gridPos"]) for panel in dashboard["panels"]]
        for at, (title, place) in enumerate(places):
            assert place["x"] + place["w"] <= 24, f"{file.name}: {title} is too wide"
            for other, taken in places[:at]:
                assert not overlap(place, taken), f"{file.name}: {title} lies over {other}"
        rules = []
        for title, expr in questions(dashboard):
            for variable, value in VARIABLES.items():
                expr = expr.replace(variable, value)
            assert "$" not in expr, f"{file.name}, {title}: an unknown variable in {expr}"
            rules.append({"record": f"q:{len(rules)}", "expr": expr})
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as made:
            # JSON is YAML.
            json.dump({"groups": [{"name": file.stem, "rules": rules}]}, made)
            made.flush()
            promtool("check", "rules", made.name)
        asked += len(rules)
    assert asked > 40, asked
    print(f"prometheus: {len(alerts)} alerts, each tested before and at its moment; {asked} questions of dashboards are PromQL")


main()
