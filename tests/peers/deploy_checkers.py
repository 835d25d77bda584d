"""Run by tests with the interpreter of .venv-deploy, which has the checkers: prints JSON, or fails with what is wrong.

    python deploy_checkers.py compose FILE          parse and cross-check as the Compose specification says
    python deploy_checkers.py helm CHART VALUES     lint, render with Helm, validate every manifest; prints the manifests
"""

import json
import sys

import yaml

KUBERNETES = ("1.25", "1.37")  # the oldest that the chart allows, the newest that is known


def compose(path: str) -> None:
    from compose_spec import PyCompose

    with open(path, encoding="utf-8") as file:
        document = yaml.safe_load(file)  # resolves merge keys, which the checker does not know
    plain = {key: value for key, value in document.items() if not key.startswith("x-")}
    checked = PyCompose.from_json(json.dumps(plain))
    checked.validate()
    print(json.dumps(plain))


def helm(chart: str, values: str) -> None:
    import helm_python
    import kubernetes_validate

    found = helm_python.lint(chart)
    wrong = [m for m in found["messages"] if m["severity"] > 1] + found["errors"]
    if wrong:
        sys.exit(json.dumps(wrong))
    manifests = []
    with helm_python.Chart.load(chart) as loaded:
        for name, text in loaded.render(json.loads(values), name="hospital", namespace="imaging").items():
            manifests += [d for d in yaml.safe_load_all(text) if d] if name.endswith(".yaml") else []
    for manifest in manifests:
        for version in KUBERNETES:
            kubernetes_validate.validate(manifest, version, strict=True)
    print(json.dumps(manifests))


if __name__ == "__main__":
    {"compose": compose, "helm": helm}[sys.argv[1]](*sys.argv[2:])
