"""The Kubernetes manifests of docs/cluster.md against the API's published schemas; no cluster.

    pip install kubernetes-validate; python tests/faults/kubernetes_manifests.py

The package carries the schemas of Kubernetes' OpenAPI description, version by version; nothing is
fetched. Every version it has from the one that the page names (1.29) is tried, strictly: a field
that the API does not know is a fault. Exit status 0: none was found.
"""

import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "cluster.md"
OLDEST = (1, 29)  # backoffLimitPerIndex


def manifests() -> list[dict]:
    """The documents of the page's YAML blocks."""
    import yaml

    text = PAGE.read_text(encoding="utf-8")
    blocks = [part.split("```")[0] for part in text.split("```yaml\n")[1:]]
    return [document for block in blocks for document in yaml.safe_load_all(block)]


def versions() -> list[str]:
    """Those whose schemas the package has, from `OLDEST`."""
    import kubernetes_validate

    folder = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"
    found = {path.name.removeprefix("v").split("-")[0] for path in folder.iterdir()}
    numbers = {tuple(map(int, name.split(".")[:2])) for name in found if name[:1].isdigit()}
    return [f"{major}.{minor}" for major, minor in sorted(numbers) if (major, minor) >= OLDEST]


def main() -> int:
    """Validates; the exit status."""
    try:
        import kubernetes_validate
    except ModuleNotFoundError:
        raise SystemExit("needs the package: pip install kubernetes-validate") from None
    found, faults = manifests(), 0
    for document in found:
        what = f"{document['kind']} {document['metadata']['name']}"
        tried = versions()
        for version in tried:
            try:
                kubernetes_validate.validate(document, version, strict=True)
            except Exception as error:
                faults += 1
                print(f"FAULT {what}, Kubernetes {version}: {error}")
        print(f"{what}: Kubernetes {', '.join(tried)}")
    print(f"{len(found)} manifests, {faults} faults")
    return 1 if faults or not found else 0


if __name__ == "__main__":
    sys.exit(main())
