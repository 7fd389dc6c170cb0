"""Makes the vocabularies of this folder: `python make.py` (needs `gguf` and `sentencepiece` from PyPI).

- `bpe.gguf.gz`: byte-level BPE whose merges were learned on whole texts, so that every boundary of a word
  that a pre-tokenizer sets, or does not set, changes the tokens.
- `t5.gguf.gz`: a unigram model that SentencePiece has trained, with a small map of characters.
- `rwkv.gguf.gz`: single bytes and the most frequent byte strings of up to eight.

`golden.mjs` then writes what llama.cpp makes of the texts in `texts.json`.
"""

import gzip
import json
import tempfile
from collections import Counter
from pathlib import Path

import sentencepiece
from gguf import GGUFWriter

here = Path(__file__).parent
texts = json.loads((here / "texts.json").read_text())
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)


def write(name, model, tokens, types, **more):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vocab.gguf"
        writer = GGUFWriter(path, "llama")
        for key, value in {"model": model, "tokens": tokens, "token_type": types, **more}.items():
            key = f"tokenizer.ggml.{key}"
            if isinstance(value, str):
                writer.add_string(key, value)
            elif isinstance(value, bool):
                writer.add_bool(key, value)
            elif isinstance(value, int):
                writer.add_uint32(key, value)
            else:
                writer.add_array(key, value)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()
        (here / f"{name}.gguf.gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))


def byte_chars():
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    shifted = [b for b in range(256) if b not in plain]
    return {b: chr(b) for b in plain} | {b: chr(256 + n) for n, b in enumerate(shifted)}


def bpe():
    chars = byte_chars()
    words = [[chars[b] for b in text.encode()] for text in texts]
    tokens, merges = [chars[b] for b in range(256)], []
    while pairs := Counter(pair for word in words for pair in zip(word, word[1:])):
        (left, right), _ = max(pairs.items(), key=lambda item: (item[1], item[0]))
        merges.append(f"{left} {right}")
        if left + right not in tokens:
            tokens.append(left + right)
        for word in words:
            i = 0
            while i + 1 < len(word):
                if (word[i], word[i + 1]) == (left, right):
                    word[i : i + 2] = [left + right]
                i += 1
    write("bpe", "gpt2", tokens, [NORMAL] * len(tokens), pre="gpt-2", merges=merges)


def t5():
    with tempfile.TemporaryDirectory() as folder:
        # Full-width letters, a ligature, a composed accent, several spaces of other widths.
        rules = {"ﬁ": "fi", "e\u0301": "\u00e9", "　": " ", "…": "...", "Ａ": "A", "Ｂ": "B"}
        rules |= {"\t": " ", "\n": " "}
        line = lambda text: " ".join(f"{ord(c):X}" for c in text)
        tsv = Path(folder) / "rules.tsv"
        tsv.write_text("".join(f"{line(a)}\t{line(b)}\n" for a, b in rules.items()))
        corpus = Path(folder) / "corpus"
        corpus.write_text("\n".join(text.replace("\n", " ") for text in texts if text.strip()) * 3)
        sentencepiece.SentencePieceTrainer.train(
            input=str(corpus), model_prefix=f"{folder}/m", model_type="unigram", vocab_size=400,
            normalization_rule_tsv=str(tsv), character_coverage=0.98, hard_vocab_limit=False,
            pad_id=0, eos_id=1, unk_id=2, bos_id=-1, num_threads=1, minloglevel=2,
        )
        sp = sentencepiece.SentencePieceProcessor(model_file=f"{folder}/m.model")
        charsmap = normalizer_map(Path(f"{folder}/m.model").read_bytes())
    n = sp.get_piece_size()
    kinds = [UNKNOWN if sp.is_unknown(i) else CONTROL if sp.is_control(i) else NORMAL for i in range(n)]
    tokens = [sp.id_to_piece(i) for i in range(n)] + ["<extra_id_0>"]
    scores = [sp.get_score(i) for i in range(n)] + [-1000.0]
    write(
        "t5", "t5", tokens, [*kinds, UNUSED], scores=scores, precompiled_charsmap=charsmap,
        add_space_prefix=True, remove_extra_whitespaces=True,
        eos_token_id=1, unknown_token_id=2, padding_token_id=0,
    )


def normalizer_map(model):
    """The field `normalizer_spec.precompiled_charsmap` of a SentencePiece model (a protocol buffer)."""

    def fields(data):
        at = 0

        def varint():
            nonlocal at
            value = shift = 0
            while True:
                byte = data[at]
                at += 1
                value |= (byte & 0x7F) << shift
                shift += 7
                if byte < 0x80:
                    return value

        while at < len(data):
            tag = varint()
            if tag & 7 == 0:
                yield tag >> 3, varint()
            elif tag & 7 == 2:
                size = varint()
                yield tag >> 3, data[at : at + size]
                at += size
            else:
                at += {1: 8, 5: 4}[tag & 7]

    spec = next(value for number, value in fields(model) if number == 3)
    return next(value for number, value in fields(spec) if number == 2)


def rwkv():
    counts = Counter()
    for text in texts:
        data = text.encode()
        for size in range(2, 9):
            counts.update(data[i : i + size] for i in range(len(data) - size + 1))
    frequent = [data for data, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])) if n > 2]
    strings = [bytes([b]) for b in range(256)] + frequent[:1500]

    def escaped(data):
        try:
            text = data.decode()
            return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
        except UnicodeDecodeError:
            return "".join(f"\\x{b:02x}" for b in data)

    tokens = ["<s>"] + [escaped(data).replace("\0", "\\x00") for data in strings]
    write("rwkv", "rwkv", tokens, [CONTROL] + [NORMAL] * len(strings))


bpe()
t5()
rwkv()
