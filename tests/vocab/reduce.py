"""Makes the vocabularies of this folder: `python reduce.py LLAMA_CPP/models` (needs `gguf` from PyPI).

A tokenizer only ever looks up substrings of a text. So of the tokens of type "normal", and of the merges,
only those that occur in one of the texts are kept; every other normal token becomes an empty string. All ids
stay as they are, and on these texts the result is the same as with the whole vocabulary.
"""

import gzip
import shutil
import sys
import tempfile
import unicodedata
from pathlib import Path

from gguf import GGUFReader, GGUFWriter

SEPARATOR = "\n__ggml_vocab_test__\n"
# A character of no text.
BETWEEN = "\U0010ffff"
NORMAL = 1


def byte_level(text):
    """GPT-2's byte alphabet."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    shifted = [b for b in range(256) if b not in plain]
    chars = {b: chr(b) for b in plain} | {b: chr(256 + n) for n, b in enumerate(shifted)}
    return "".join(chars[b] for b in text.encode())


def spellings(model, text):
    """The strings in which the tokenizer looks for tokens."""
    if model == "gpt2":
        return [byte_level(text)]
    if model == "bert":
        bare = "".join(c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c) != "Mn")
        return [bare.lower(), text.lower()]
    return ["▁" + text.replace(" ", "▁")]


def reduce(path, texts, out):
    reader = GGUFReader(path)
    value = {key: field.contents() for key, field in reader.fields.items()}
    model = value["tokenizer.ggml.model"]
    haystack = BETWEEN.join(spelling for text in texts for spelling in spellings(model, text))
    types = value["tokenizer.ggml.token_type"]

    def occurs(token):
        return token in haystack or (model == "bert" and token.startswith("▁") and token[1:] in haystack)

    def keep(token, kind):
        return kind != NORMAL or len(token) == 1 or occurs(token)

    tokens = [t if keep(t, k) else "" for t, k in zip(value["tokenizer.ggml.tokens"], types)]
    value["tokenizer.ggml.tokens"] = tokens
    if "tokenizer.ggml.merges" in value:
        merged = lambda merge: merge[0] + merge[1:].replace(" ", "", 1)
        value["tokenizer.ggml.merges"] = [m for m in value["tokenizer.ggml.merges"] if merged(m) in haystack]
    if "tokenizer.ggml.scores" in value:
        scores = value["tokenizer.ggml.scores"]
        value["tokenizer.ggml.scores"] = [s if t else 0.0 for s, t in zip(scores, tokens)]
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "vocab.gguf"
        writer = GGUFWriter(plain, value["general.architecture"])
        for key, field in reader.fields.items():
            if key.startswith("GGUF.") or key in ("general.architecture", "tokenizer.chat_template"):
                continue
            kind, *sub = field.types
            writer.add_key_value(key, value[key], kind, sub_type=sub[0] if sub else None)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()
        out.write_bytes(gzip.compress(plain.read_bytes(), mtime=0))


def main():
    source, here = Path(sys.argv[1]), Path(__file__).parent
    for inp in sorted(source.glob("ggml-vocab-*.gguf.inp")):
        name = inp.name.removesuffix(".inp")
        for kind in ("inp", "out"):
            shutil.copy(source / f"{name}.{kind}", here)
        texts = inp.read_bytes().decode().removesuffix(SEPARATOR).split(SEPARATOR)
        out = here / f"{name}.gz"
        reduce(source / name, texts, out)
        print(name, len(texts), out.stat().st_size)


main()
