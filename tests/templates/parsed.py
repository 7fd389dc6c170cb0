"""Makes parsed.json.gz: how transformers' ResponseParser separates what chat templates write of answers, with
the response templates that TRL has for them. Each answer is fed character by character. Run with

    pip install transformers==5.24.0 && pip install --no-deps trl==1.16.0
    python3 tests/templates/parsed.py
"""

import gzip
import importlib.util
import json
import sys
import types
from pathlib import Path

from transformers.utils.chat_parsing import ResponseParser

from conversations import ASKED, SIMPLE, THINKING, TOOLS, assistant, call, result, user
from expected import FILE, render

HERE = Path(__file__).parent
# Templates that TRL's response templates are for, or that write answers as those are written.
KNOWN = {
    "Qwen-Qwen3-0.6B": "qwen3",
    "Qwen-Qwen2.5-7B-Instruct": "qwen3",
    "MiMo-VL": "qwen3",
    "Qwen3.5-4B": "qwen3_5",
    "Qwen3-Coder": "qwen3_5",
    "NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": "nemotron_3",
    "GLM-4.6": "glm4moe",
    "meta-llama-Llama-3.1-8B-Instruct": "llama3",
    "meta-llama-Llama-3.2-3B-Instruct": "llama3",
    "meta-llama-Llama-3.3-70B-Instruct": "llama3",
    "openai-gpt-oss-120b": "gptoss",
    "google-gemma-4-31B-it": "gemma",
    "google-gemma-4-31B-it-interleaved": "gemma",
    "LFM2.5-8B-A1B": "lfm2",
    "MiniMax-M3": "minimax_m3",
    "meetkai-functionary-medium-v3.2": "functionary",
}
MARK = r"\]<\]minimax\[>\["
CALL = {"type": "function", "function": {"name": "{name}", "arguments": "{content}"}}
# Those that TRL does not have, or (Gemma) has with a `$` that depends on how an answer is cut. MiniMax M3's
# is right for one call whose arguments are no lists and no maps.
OWN = {
    "lfm2": {
        "start_anchor": "<|im_start|>assistant\n",
        "fields": {
            "thinking": {"open": "<think>", "close_pattern": r"</think>\s*"},
            "tool_calls": {
                "open": "<|tool_call_start|>", "close": "<|tool_call_end|>", "content": "python-call-list",
                "transform_each": True,
                "transform": {"type": "function", "function": {"name": "{name}", "arguments": "{arguments}"}},
            },
            "content": {"close_pattern": r"<\|im_end\|>\s*"},
        },
    },
    "gemma": {
        "start_anchor": "<|turn>model\n",
        "fields": {
            "reasoning_content": {"open": "<|channel>thought\n", "close": "<channel|>"},
            "tool_calls": {
                "open_pattern": r"<\|tool_call>call:(?P<name>\w+)", "close": "<tool_call|>", "repeats": True,
                "content": "json", "transform": CALL,
                "content_args": {"unquoted_keys": True, "string_delims": [['<|"|>', '<|"|>']]},
            },
            "content": {"close_pattern": r"\s*(?:<turn\|>|<\|tool_response>|<eos>)\s*"},
        },
    },
    "minimax_m3": {
        "start_anchor": "]~b]ai\n",
        "fields": {
            "reasoning_content": {"open": "<mm:think>", "close": "</mm:think>"},
            "tool_calls": {
                "open_pattern": rf"{MARK}<tool_call>\s*{MARK}<invoke name=\"(?P<name>[^\"]+)\">",
                "close_pattern": rf"{MARK}</invoke>\s*{MARK}</tool_call>\s*",
                "repeats": True, "content": "xml-inline", "transform": CALL,
                "content_args": {"tag_pattern": rf"{MARK}<(?P<key>[^/>]+)>(?P<value>.*?){MARK}</[^>]+>"},
            },
            "content": {"close_pattern": r"\[e~\[\s*"},
        },
    },
    "functionary": {
        "start_anchor": "<|start_header_id|>assistant<|end_header_id|>\n\n",
        "fields": {
            "content": {"open": ">>>all\n", "close_pattern": r"(?=>>>)|<\|eot_id\|>\s*"},
            "tool_calls": {
                "open_pattern": r">>>(?P<name>(?!all\n)\w+)\n", "close_pattern": r"(?=>>>)|<\|eot_id\|>\s*",
                "repeats": True, "content": "json", "transform": CALL,
            },
        },
    },
}
# Templates that take arguments as texts.
AS_TEXT = {"meetkai-functionary-medium-v3.2"}
TEXTS = call("call00005", "get_weather", {"city": "{\"a\": 1} <b> & \\ \n2", "unit": "°C"})
NUMBERS = call("call00006", "get_weather", {"city": "7", "days": 7, "places": [{"lat": 1.5, "inside": True}]})
NOW = call("call00007", "now", {})
# Questions, the answer, and whether there are tools.
ANSWERS = {
    "content": (THINKING[:1], assistant("Two. 😀\n\n1 < 2 {\"name\": 3}"), False),
    "reasoning": (THINKING[:1], THINKING[1], False),
    "call": (ASKED, assistant("", tool_calls=[SIMPLE]), True),
    "content_and_call": (ASKED, assistant("Let me see.", tool_calls=[SIMPLE]), True),
    "reasoning_and_call": (ASKED, assistant("", reasoning_content="I must look.", tool_calls=[SIMPLE]), True),
    "texts": (ASKED, assistant("", tool_calls=[TEXTS]), True),
    "numbers": (ASKED, assistant("", tool_calls=[NUMBERS]), True),
    "two_calls": (ASKED, assistant("", tool_calls=[SIMPLE, NOW]), True),
}


def response_templates():
    """Those of TRL, without what it needs torch for."""
    folder = Path(importlib.util.find_spec("trl").submodule_search_locations[0])
    package, data = types.ModuleType("trl"), types.ModuleType("trl.data_utils")
    package.__path__, data.prepare_multimodal_messages = [str(folder)], None
    sys.modules |= {"trl": package, "trl.data_utils": data}
    module = importlib.import_module("trl.chat_template_utils")
    return OWN | {name: getattr(module, f"{name}_template") for name in set(KNOWN.values()) - set(OWN)}


def with_texts(message):
    calls = message.get("tool_calls", [])
    texts = [call(c["id"], c["function"]["name"], json.dumps(c["function"]["arguments"])) for c in calls]
    return message | ({"tool_calls": texts} if texts else {})


def parsed(template, prefix, answer, tools):
    parser = ResponseParser(template, prefix=prefix, tools=tools)
    for c in answer:
        parser.feed(c)
    message, _ = parser.finalize()
    whole = ResponseParser(template, prefix=prefix, tools=tools)
    whole.feed(answer)
    if whole.finalize()[0] != message:
        raise ValueError("other parts if it is fed at once")
    calls = [call["function"] for call in message.get("tool_calls", [])]
    return {
        "content": message.get("content", ""),
        "reasoning": message.get("reasoning_content", message.get("thinking", "")),
        "calls": [[call["name"], call["arguments"]] for call in calls],
    }


def main():
    sources = json.loads(gzip.decompress(FILE.read_bytes()))["templates"]
    templates = response_templates()
    cases = []
    for name, known in KNOWN.items():
        for label, (asked, answer, has_tools) in ANSWERS.items():
            tools = {"tools": TOOLS} if has_tools else {}
            if known == "minimax_m3" and label in ("numbers", "two_calls"):
                continue
            if known == "gemma":
                tools["chat_template_kwargs"] = {"enable_thinking": True}
            if name in AS_TEXT:
                answer = with_texts(answer)
            if known == "lfm2" and "reasoning_content" in answer:
                answer = answer | {"thinking": answer["reasoning_content"]}
            prefix = render(sources[name]["source"], {"messages": asked, **tools})
            turn = [*asked, answer]
            # Templates may leave out the reasoning of turns before the last question; no one follows.
            text = render(sources[name]["source"], {"messages": turn, **tools}, asks=False)
            if isinstance(prefix, Exception) or isinstance(text, Exception) or not text.startswith(prefix):
                # The template has no such answers, or writes them in another way than it asks for them.
                print(f"{name}/{label}: no answer after the prompt")
                continue
            text = text[len(prefix):]
            try:
                got = parsed(templates[known], prefix, text, TOOLS if has_tools else [])
            except ValueError as error:
                print(f"{name}/{label}: {str(error).splitlines()[0]}")
                continue
            case = {"template": name, "response": known, "answer": label, "text": text}
            cases.append(case | {"prompt": prefix[-100:]} | got)
    file = {"cases": cases, "responses": {name: json.dumps(one) for name, one in sorted(templates.items())}}
    data = json.dumps(file, ensure_ascii=False, indent=0).encode()
    (HERE / "parsed.json.gz").write_bytes(gzip.compress(data, 9, mtime=0))
    print(f"{len(cases)} answers of {len({case['template'] for case in cases})} templates")


main()
