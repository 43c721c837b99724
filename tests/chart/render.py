"""Renders a chart: standard input has {name: values}, standard output gets {"defaults": …, "sets": {name: result}}.

Arguments: the chart, the name of the release and its namespace. A result has what an installation comes to: `objects`
and `notes`, or `error`; what strict lint says; and for each version of Kubernetes which objects its schemas refuse.
Kinds that are not Kubernetes' own are left to the caller.
"""

import json
import sys

import helm_python
import kubernetes_validate
import yaml

VERSIONS = ["1.33", "1.37"]
FOREIGN = ("cert-manager.io/", "monitoring.coreos.com/", "apiextensions.k8s.io/")


def invalid(objects, version):
    for one in objects:
        if one["apiVersion"].startswith(FOREIGN):
            continue
        try:
            kubernetes_validate.validate(one, version, strict=True)
        except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
            yield f"{one['kind']} {one['metadata']['name']}: {error}"


def result(path, name, namespace, chart, values):
    lint = helm_python.lint(path, values, strict=True, namespace=namespace)
    found = {"lint": [m for m in lint["messages"] if m["severity"] > 1] + lint["errors"]}
    try:
        files = chart.render(values, name=name, namespace=namespace)
    except helm_python.HelmError as error:
        return found | {"error": str(error)}
    notes = "".join(text for name, text in files.items() if name.endswith("/NOTES.txt"))
    manifests = [text for name, text in sorted(files.items()) if name.endswith(".yaml")]
    objects = [one for text in manifests for one in yaml.safe_load_all(text) if one]
    return found | {
        "objects": objects,
        "notes": notes,
        "invalid": {version: list(invalid(objects, version)) for version in VERSIONS},
    }


def main():
    path, release, namespace = sys.argv[1:]
    sets = {name: yaml.safe_load(text) or {} for name, text in json.load(sys.stdin).items()}
    with helm_python.Chart.load(path) as chart:
        answer = {
            "defaults": chart.values,
            "sets": {name: result(path, release, namespace, chart, values) for name, values in sets.items()},
        }
    json.dump(answer, sys.stdout)


main()
