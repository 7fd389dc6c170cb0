"""Writes the inputs that fuzzing begins with to corpus/TARGET, from the files of the other tests."""

import gzip
import json
from pathlib import Path

HERE = Path(__file__).parent
TESTS = HERE.parent
SEPARATOR = "\n__ggml_vocab_test__\n"


def write(target, name, data):
    folder = HERE / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def unzipped(path):
    return gzip.decompress(path.read_bytes())


# The other vocabularies are too large for many tries.
SMALL = ["cases/chain_plain", "vocab/llama.cpp/rwkv", "vocab/llama.cpp/t5"]
for path in (TESTS / "golden/tiny").glob("*.gguf"):
    write("gguf", path.stem, path.read_bytes())
for path in SMALL:
    write("gguf", Path(path).name, unzipped(TESTS / f"{path}.gguf.gz"))

# An Input::Published, as `arbitrary` reads it: four bytes for the variant, a byte, then the text.
published = sorted(TESTS.glob("vocab/*.gguf.gz")) + sorted(TESTS.glob("vocab/llama.cpp/*.gguf.gz"))
for which, path in enumerate(published):
    texts = path.with_suffix("").with_suffix(".gguf.inp")
    texts = texts.read_text().split(SEPARATOR) if texts.exists() else [path.name]
    for i, text in enumerate(texts):
        write("vocabulary", f"{which}-{i}", b"\xff\xff\xff\xff" + bytes([which]) + text.encode())

templates = json.loads(unzipped(TESTS / "templates/expected.json.gz"))["templates"]
for name, template in templates.items():
    write("template", name.replace("/", "-"), template["source"].encode())
