"""Makes expected.json.gz: what Python's jinja2, set up as in transformers, makes of every template and
conversation. `null` stands for an error of the template. Run with jinja2 3.1 installed:

    python3 tests/templates/expected.py [FOLDER]             with FOLDER, takes its *.jinja files anew
    python3 tests/templates/expected.py --show NAME CONVERSATION

The templates are those of llama.cpp's models/templates, which are their makers' own. The set-up follows
transformers' utils/chat_template_utils.py.
"""

import datetime
import gzip
import json
import sys
from pathlib import Path

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from conversations import CONVERSATIONS

HERE = Path(__file__).parent
FILE = HERE / "expected.json.gz"
NOW = datetime.datetime(2026, 3, 5, 9, 7, 1)


class Generation(Extension):
    """`{% generation %}` marks the model's own turns for training; what it holds is rendered."""

    tags = {"generation"}

    def parse(self, parser):
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def environment():
    extensions = [Generation, loopcontrols]
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=extensions)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        options = {"indent": indent, "separators": separators, "sort_keys": sort_keys}
        return json.dumps(x, ensure_ascii=ensure_ascii, **options)

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = NOW.strftime
    return env


def render(source, conversation, asks=True):
    context = {"tools": None, "documents": None, **conversation}
    context |= context.pop("chat_template_kwargs", {})
    try:
        template = environment().from_string(source)
        return template.render(add_generation_prompt=asks, bos_token="<s>", eos_token="</s>", **context)
    except Exception as error:
        return error


def main(arguments):
    if arguments[:1] == ["--show"]:
        templates = json.loads(gzip.decompress(FILE.read_bytes()))["templates"]
        print(render(templates[arguments[1]]["source"], CONVERSATIONS[arguments[2]]))
        return
    if arguments:
        paths = sorted(Path(arguments[0]).glob("*.jinja"))
        sources = {path.stem: path.read_bytes().decode() for path in paths}
    else:
        templates = json.loads(gzip.decompress(FILE.read_bytes()))["templates"]
        sources = {name: template["source"] for name, template in templates.items()}
    templates, errors = {}, 0
    for name, source in sources.items():
        # Jinja reads a file's CRLF as LF.
        rendered = [render(source, conversation) for conversation in CONVERSATIONS.values()]
        errors += sum(isinstance(text, Exception) for text in rendered)
        rendered = [None if isinstance(text, Exception) else text for text in rendered]
        templates[name] = {"source": source, "expected": rendered}
    data = {"conversations": list(CONVERSATIONS.items()), "templates": templates}
    data = json.dumps(data, ensure_ascii=False, indent=0).encode()
    FILE.write_bytes(gzip.compress(data, 9, mtime=0))
    print(f"{len(templates)} templates, {len(CONVERSATIONS)} conversations, {errors} errors, "
          f"{len(data)} bytes, {FILE.stat().st_size} compressed")


if __name__ == "__main__":
    main(sys.argv[1:])
