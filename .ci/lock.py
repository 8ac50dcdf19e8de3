"""Print what pip would install of the project and its extras for users, each file by its hash.

python .ci/lock.py torch==2.13.0 > requirements.lock
"""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PIP = (sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-")


def main(torch: str) -> None:
    """Ask pip for a report, and keep versions and hashes."""
    wanted = ("--constraint", "constraints.txt", ".[app,cells,cluster,drugs,postgres]", torch)
    found = subprocess.run([*PIP, *wanted], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout  # noqa: S603 - ours
    print("# Written by make lock: what users install on Linux with Python 3.11, each file by its hash.")
    for each in sorted(json.loads(found)["install"], key=lambda each: each["metadata"]["name"].lower()):
        archive = each["download_info"].get("archive_info")
        if archive is not None:  # all but the project itself
            name, version = each["metadata"]["name"].lower(), each["metadata"]["version"].partition("+")[0]
            print(f"{name}=={version} --hash=sha256:{archive['hashes']['sha256']}")


if __name__ == "__main__":
    main(sys.argv[1])
