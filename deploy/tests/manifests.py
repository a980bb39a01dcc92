"""manifests.py BINARY: what `deploy/kubernetes` and `deploy/helm` make is what a cluster takes, fits together, and starts the server.

Needs `kubernetes-validate` and `helm-python-sdk` (pip) in PYTHONPATH, and `kubectl` or `kustomize` to render overlays: without either they are
not rendered, and the last line says so.
"""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile

import helm_python as helm
import kubernetes_validate
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
KUBERNETES = ROOT / "deploy/kubernetes"
CHART = ROOT / "deploy/helm/tollgate"
VERSIONS = ["1.28", "1.30", "1.32", "1.34", "1.37"]
# Kinds that are no part of Kubernetes itself; what they are is asked below.
FOREIGN = {"ServiceMonitor"}
UID = 65534
# Warnings that are not of the manifest: a first start, and how many files this machine lets a process open.
ELSEWHERE = ("new, empty ledger", "this process may open")


def kustomize():
    """The command that renders a folder, where there is one that reads what these files say."""
    if shutil.which("kustomize"):
        return ["kustomize", "build"]
    if shutil.which("kubectl"):
        said = subprocess.run(["kubectl", "version", "--client"], capture_output=True, text=True).stdout
        found = re.search(r"Kustomize Version: v(\d+)", said)
        if found and int(found.group(1)) >= 5:
            return ["kubectl", "kustomize"]
    return None


def documents(text):
    return [one for one in yaml.safe_load_all(text) if one]


def check_schema(name, objects):
    for one in objects:
        if one["kind"] in FOREIGN:
            continue
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(one, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                sys.exit(f"{name}: {one['kind']} {one['metadata']['name']}, Kubernetes {version}: {error.message} at {list(error.path)}")


def only(objects, kind):
    (one,) = [one for one in objects if one["kind"] == kind]
    return one


def selects(selector, labels):
    assert selector, "an empty selector selects everything"
    return all(labels.get(key) == value for key, value in selector.items())


def check_fit(objects):
    """What is named is there, and what selects the pod selects it."""
    deployment, service = only(objects, "Deployment"), only(objects, "Service")
    template = deployment["spec"]["template"]
    labels, pod = template["metadata"]["labels"], template["spec"]
    (container,) = pod["containers"]
    assert deployment["spec"]["replicas"] == 1 and deployment["spec"]["strategy"] == {"type": "Recreate"}
    assert not [one for one in objects if one["kind"] == "HorizontalPodAutoscaler"], "one node counts: two would admit twice"

    assert selects(deployment["spec"]["selector"]["matchLabels"], labels)
    assert selects(service["spec"]["selector"], labels)
    assert selects(only(objects, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"], labels)
    calls = any(one["name"] == "TOLLGATE_XDS_SERVER" for one in container["env"])
    policies = [one for one in objects if one["kind"] == "NetworkPolicy"]
    for policy in policies:
        assert selects(policy["spec"]["podSelector"]["matchLabels"], labels)
        assert "Egress" in policy["spec"]["policyTypes"]
        assert bool(policy["spec"]["egress"]) == calls, "only a management server is called"
        for rule in policy["spec"]["ingress"]:
            for peer in rule["from"]:
                asked = peer.get("podSelector", {}).get("matchLabels", {})
                assert "app.kubernetes.io/name" not in asked, "only tollgate itself could ask"

    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    wanted = [port["targetPort"] for port in service["spec"]["ports"]]
    wanted += [container[probe]["httpGet"]["port"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")]
    wanted += [port["port"] for policy in policies for rule in policy["spec"]["ingress"] for port in rule["ports"]]
    assert set(wanted) <= set(ports), f"{wanted} of {ports}"
    env = {one["name"]: one["value"] for one in container["env"]}
    assert len(env) == len(container["env"]), "a name stands twice in the environment"
    assert env["TOLLGATE_GRPC_ADDR"] == f":{ports['grpc']}" and env["TOLLGATE_HTTP_ADDR"] == f":{ports['http']}"
    assert env["TOLLGATE_ADMIN_GRPC_ADDR"].startswith("127.0.0.1:"), "whoever reaches the pod could edit plans"

    mounted = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
    volumes = {one["name"]: one for one in pod["volumes"]}
    assert set(mounted) == set(volumes)
    have = {(one["kind"], one["metadata"]["name"]) for one in objects}
    for volume in volumes.values():
        if "configMap" in volume:
            assert ("ConfigMap", volume["configMap"]["name"]) in have
        if "persistentVolumeClaim" in volume and "given" not in volume["persistentVolumeClaim"]["claimName"]:
            assert ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]) in have
    data = env["TOLLGATE_DATA_DIR"]
    assert data == ":memory:" or data.startswith(mounted["data"] + "/"), f"{data} is not in a volume"

    context = pod["securityContext"]
    assert context["runAsNonRoot"] and context["runAsUser"] == context["fsGroup"] == UID
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not pod["automountServiceAccountToken"] and not pod["enableServiceLinks"]
    # A quarter of the memory may be counters.
    limit = int(container["resources"]["limits"]["memory"].removesuffix("Mi")) << 20
    assert int(env["TOLLGATE_ENGINE_MAX_COUNTERS"]) * 128 <= limit // 4
    return container, env


def check_start(binary, objects, container, env):
    """The server starts with what the pod gives it, and has nothing to warn of."""
    with tempfile.TemporaryDirectory() as folder:
        rules = pathlib.Path(folder, "rules")
        rules.mkdir()
        here = {name: "127.0.0.1:0" for name in env if name.endswith("_ADDR")}
        if "TOLLGATE_RULES" in env:
            for name, text in only(objects, "ConfigMap")["data"].items():
                (rules / name).write_text(text)
            checked = subprocess.run([binary, "rules", "check", str(rules)], capture_output=True, text=True)
            assert checked.returncode == 0, checked.stderr
            here["TOLLGATE_RULES"] = str(rules)
        if env["TOLLGATE_DATA_DIR"] != ":memory:":
            here["TOLLGATE_DATA_DIR"] = str(pathlib.Path(folder, "data"))
        if "TOLLGATE_AUTH_TOKENS_FILE" in env:
            tokens = pathlib.Path(folder, "tokens.yaml")
            made = subprocess.run([binary, "token", "create", "gateway", "--scope", "decide,report"], capture_output=True, text=True)
            tokens.write_text("tokens:\n" + made.stderr)
            tokens.chmod(0o600)
            here["TOLLGATE_AUTH_TOKENS_FILE"] = str(tokens)
        with open(pathlib.Path(folder, "log"), "w+") as log:
            server = subprocess.Popen(
                [binary, *container["args"]], env=env | here, stdout=subprocess.PIPE, stderr=log, text=True, cwd=folder
            )
            ready = server.stdout.readline()
            server.send_signal(signal.SIGTERM)
            code = server.wait()
            log.seek(0)
            said = log.read()
        assert ready.startswith("tollgate ready") and code == 0, f"{ready}{said}"
        lines = [json.loads(line) for line in said.splitlines()]
        if "TOLLGATE_XDS_SERVER" in env:
            # It is away, and may be told so.
            return
        warned = [line for line in lines if line["level"] in ("WARN", "ERROR") and not any(words in line["message"] for words in ELSEWHERE)]
        assert not warned, warned


def check(binary, name, objects):
    check_schema(name, objects)
    container, env = check_fit(objects)
    check_start(binary, objects, container, env)
    return container


def charts(binary):
    lint = helm.lint(str(CHART))
    worse = [one for one in lint["messages"] if one["severity"] > 1] + lint["errors"]
    assert not worse, worse
    values = {
        "as it comes": {},
        "no volume": {"volume": {"enabled": False}},
        "a claim that is there": {"volume": {"existingClaim": "given"}},
        "all": {
            "settings": {"receipts.ttl": "2h", "engine.max_operations": 1000000, "grpc.reflection": False, "grpc.workers": 2},
            "tokensSecret": "tokens",
            "serviceMonitor": {"enabled": True},
            "imagePullSecrets": [{"name": "pull"}],
            "podAnnotations": {"a": "b"},
            "nodeSelector": {"kubernetes.io/arch": "amd64"},
            "tolerations": [{"key": "k", "operator": "Exists"}],
            "volume": {"size": "20Gi", "storageClassName": "fast"},
        },
    }
    values["rules from elsewhere"] = {
        "settings": {"xds.server": "127.0.0.1:1"},
        "networkPolicy": {"egress": [{"to": [{"podSelector": {"matchLabels": {"app": "management"}}}], "ports": [{"port": 18001}]}]},
    }
    made = {}
    with helm.Chart.load(str(CHART)) as chart:
        for name, given in values.items():
            chart.validate_schema(given)
            rendered = chart.render(given, name="demo", namespace="gateways")
            text = [text for path, text in rendered.items() if path.endswith(".yaml")]
            objects = [one for part in text for one in documents(part)]
            made[name] = check(binary, f"the chart, {name}", objects)
            if name == "all":
                whole = objects
        elsewhere = {one["name"]: one["value"] for one in made["rules from elsewhere"]["env"]}
        assert elsewhere["TOLLGATE_XDS_SERVER"] == "127.0.0.1:1" and "TOLLGATE_RULES" not in elsewhere, elsewhere
        try:
            chart.render({"settings": {"xds.server": "127.0.0.1:1"}}, name="demo")
            sys.exit("the chart shuts the management server out")
        except helm.HelmError as error:
            assert "networkPolicy.egress" in str(error), error
        env = {one["name"]: one["value"] for one in made["all"]["env"]}
        assert env["TOLLGATE_ENGINE_MAX_OPERATIONS"] == "1000000" and env["TOLLGATE_GRPC_WORKERS"] == "2", env
        (monitor,) = [one for one in whole if one["kind"] == "ServiceMonitor"]
        assert selects(monitor["spec"]["selector"]["matchLabels"], only(whole, "Service")["metadata"]["labels"])
        assert {one["port"] for one in monitor["spec"]["endpoints"]} <= {one["name"] for one in only(whole, "Service")["spec"]["ports"]}
        for wrong in ({"replicas": 2}, {"workers": 0}, {"settings": {"Grpc.Workers": 1}}, {"volume": {"enabled": "yes"}}):
            try:
                chart.validate_schema(wrong)
            except helm.HelmError:
                continue
            sys.exit(f"the chart takes {wrong}")
    return made["as it comes"], len(values)


def main(binary):
    binary = os.path.abspath(binary)
    chart, sets = charts(binary)
    command, folders = kustomize(), [KUBERNETES / "base", *sorted((KUBERNETES / "overlays").iterdir())]
    if command is None:
        print(f"manifests: the chart with {sets} sets of values. Overlays were not rendered: neither kubectl (kustomize 5) nor kustomize is here")
        return
    containers = {}
    for folder in folders:
        rendered = subprocess.run([*command, str(folder)], capture_output=True, text=True)
        assert rendered.returncode == 0 and not rendered.stderr, rendered.stderr
        containers[folder.name] = check(binary, folder.name, documents(rendered.stdout))
    # Chart and overlay say the same of the container, but for the image.
    def comparable(container):
        env = sorted((one["name"], one["value"]) for one in container["env"])
        mounts = sorted(one["mountPath"] for one in container["volumeMounts"])
        rest = {key: value for key, value in container.items() if key not in ("image", "imagePullPolicy", "env", "volumeMounts")}
        return env, mounts, rest
    assert comparable(chart) == comparable(containers["volume"]), "the chart and the overlay `volume` differ"

    version = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M).group(1)
    about = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert about["version"] == about["appVersion"] == version
    assert {container["image"].rsplit(":")[-1] for container in [chart, *containers.values()]} == {version}
    print(f"manifests: the chart with {sets} sets of values, {', '.join(containers)}; Kubernetes {', '.join(VERSIONS)}; each starts the server")


main(*sys.argv[1:])
