"""compose.py: the compose file names folders, files, images and ports that fit. Needs PyYAML in PYTHONPATH.

No engine is asked: that Envoy takes its file, and limits by it, is tested by `cargo test --test it deploy`, and the image by deploy/tests/image.
"""

import pathlib
import re

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy"


def main():
    compose = yaml.safe_load((FOLDER / "docker-compose.yaml").read_text())
    services = compose["services"]
    assert set(compose) == {"name", "services", "volumes"} and set(services) == {"tollgate", "envoy"}, compose
    tollgate, envoy = services["tollgate"], services["envoy"]

    context = (FOLDER / tollgate["build"]["context"]).resolve()
    assert context == ROOT and (context / tollgate["build"]["dockerfile"]).is_file()
    assert tollgate["read_only"] and tollgate["cap_drop"] == ["ALL"]
    for service in services.values():
        for mount in service["volumes"]:
            source, target = mount.split(":")[:2]
            assert target.startswith("/")
            if source.startswith("."):
                assert (FOLDER / source).exists(), f"{source} is not there"
            else:
                assert source in compose["volumes"], f"{source} is no volume"
        for port in service["ports"]:
            assert port.startswith("127.0.0.1:"), f"{port} is open to the network"

    # Where the image keeps its ledger, and reads its rules.
    config = yaml.safe_load((FOLDER / "image/config.yaml").read_text())
    targets = {mount.split(":")[1] for mount in tollgate["volumes"]}
    assert targets == {config["data_dir"], *config["rules"]}, targets
    exposed = set(re.search(r"^EXPOSE (.*)$", (FOLDER / "Dockerfile").read_text(), re.M).group(1).split())
    assert exposed == {config[name].rsplit(":")[-1] for name in ("grpc_addr", "http_addr")}

    # The Envoy that the tests start, with the file that is mounted, asks the service of that name.
    version = re.search(r'const VERSION: &str = "(.*)"', (ROOT / "tests/it/envoy.rs").read_text()).group(1)
    assert envoy["image"] == f"envoyproxy/envoy:v{version}", envoy["image"]
    (mounted,) = [mount.split(":")[1] for mount in envoy["volumes"]]
    assert mounted in envoy["command"]
    wired = yaml.safe_load((FOLDER / "compose/envoy.yaml").read_text())["static_resources"]
    asked = [
        endpoint["endpoint"]["address"]["socket_address"]
        for cluster in wired["clusters"]
        if cluster["name"] == "tollgate"
        for group in cluster["load_assignment"]["endpoints"]
        for endpoint in group["lb_endpoints"]
    ]
    assert asked == [{"address": "tollgate", "port_value": 8081}] and "8081" in exposed
    assert envoy["depends_on"]["tollgate"] == {"condition": "service_healthy"}
    assert "HEALTHCHECK" in (FOLDER / "Dockerfile").read_text()
    print("compose: folders, images, ports and names fit")


main()
