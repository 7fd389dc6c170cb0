"""Packs the JSON Schema Test Suite into one file: a list of files, each with its groups of tests.

    git clone https://github.com/json-schema-org/JSON-Schema-Test-Suite
    git -C JSON-Schema-Test-Suite checkout 44401e0c
    python3 tests/schemas/make.py JSON-Schema-Test-Suite

It has draft 2020-12, whose `format` is tested by the optional files of `format/`.
"""

import gzip
import json
import sys
from pathlib import Path

folder = Path(sys.argv[1]) / "tests/draft2020-12"
paths = sorted(folder.glob("*.json")) + sorted((folder / "optional/format").glob("*.json"))
files = [
    {"name": str(path.relative_to(folder).with_suffix("")), "groups": json.loads(path.read_text())}
    for path in paths
]
text = json.dumps(files, ensure_ascii=False, separators=(",", ":"))
out = Path(__file__).parent / "draft2020-12.json.gz"
out.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
