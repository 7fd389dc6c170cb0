"""The conversations with which every template is rendered: name, then what the template gets."""

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city: \"now\" & <later>.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "City's name, e.g. Zürich"},
                "unit": {"type": "string", "enum": ["°C", "°F"], "default": "°C"},
                "days": {"type": ["integer", "null"], "minimum": 0},
                "places": {"type": "array", "items": {"type": "object", "properties": {
                    "lat": {"type": "number"}, "inside": {"type": "boolean"}}, "required": ["lat"]}},
            },
            "required": ["city"],
        },
        "return": {"type": "string"},
    },
}
TIME = {"type": "function", "function": {"name": "now", "description": "The time",
                                         "parameters": {"type": "object", "properties": {}}}}
TOOLS = [WEATHER, TIME]


def user(content):
    return {"role": "user", "content": content}


def system(content):
    return {"role": "system", "content": content}


def assistant(content, **more):
    return {"role": "assistant", "content": content, **more}


def call(ident, name, arguments):
    return {"id": ident, "type": "function", "function": {"name": name, "arguments": arguments}}


def result(ident, name, content):
    return {"role": "tool", "tool_call_id": ident, "name": name, "content": content}


def text(*parts):
    return [{"type": "text", "text": part} for part in parts]


ARGUMENTS = {"city": "Zürich \"HB\"\n", "days": 2, "factor": 1.5, "ok": True, "none": None,
             "list": [1, 2.0, "x"], "map": {"b": False, "a": []}}
FIRST = call("call00001", "get_weather", ARGUMENTS)
SECOND = call("call00002", "now", {})
STRINGS = call("call00003", "get_weather", "{\"city\": \"Rome\"}")
SIMPLE = call("call00004", "get_weather", {"city": "Rome", "days": 3})
ASKED = [system("Be brief."), user("Weather?")]
TALK = [system(" You are <b>kind</b> & \"quick\".\n"), user("Hi "), assistant(" Hello 😀!\n"), user("\n中文 é?")]
THINKING = [user("1+1?"), assistant("2", reasoning_content="One and one.\nTwo."), user("2+2?")]
WITH_TAGS = [user("1+1?"), assistant("<think>\nOne and one.\n</think>\n\n2"), user("2+2?")]
CALLED = [*ASKED, assistant("Let me see.", tool_calls=[SIMPLE]), result("call00004", "get_weather", "sunny")]
PARALLEL = [
    *ASKED,
    assistant("", tool_calls=[FIRST, SECOND]),
    result("call00001", "get_weather", "{\"sky\": \"clear\"}"),
    result("call00002", "now", "12:00"),
    assistant("Clear at noon."),
    user("Thanks"),
]

CONVERSATIONS = {
    "user": {"messages": [user("Hello")]},
    "system": {"messages": [system("Be brief."), user("Hello")]},
    "talk": {"messages": TALK},
    "talk_without_system": {"messages": TALK[1:]},
    "two_users": {"messages": [user("A"), user("B")]},
    "ends_with_assistant": {"messages": TALK[:3]},
    "developer": {"messages": [{"role": "developer", "content": "Be brief."}, user("Hello")]},
    "other_role": {"messages": [user("Hello"), {"role": "critic", "content": "Bad."}]},
    "no_messages": {"messages": []},
    "parts": {"messages": [system(text("Be", " brief.")), user(text("Hello ", "you")), assistant(text("Hi")),
                           user(text("Bye"))]},
    "image": {"messages": [user([{"type": "image"}, *text("What is this?")])]},
    "tools": {"messages": ASKED, "tools": TOOLS},
    "tools_without_system": {"messages": ASKED[1:], "tools": [TIME]},
    "call": {"messages": CALLED, "tools": TOOLS},
    "call_and_on": {"messages": [*CALLED, assistant("Sunny."), user("And now?")], "tools": [WEATHER]},
    "call_without_tools": {"messages": CALLED},
    "call_open": {"messages": CALLED[:3], "tools": TOOLS},
    "call_null_content": {"messages": [*ASKED, assistant(None, tool_calls=[SIMPLE]),
                                       result("call00004", "get_weather", "sunny")], "tools": TOOLS},
    "call_no_content": {"messages": [*ASKED, {"role": "assistant", "tool_calls": [SIMPLE]},
                                     result("call00004", "get_weather", "sunny")], "tools": TOOLS},
    "call_parts": {"messages": [*CALLED[:3], result("call00004", "get_weather", text("sun", "ny"))],
                   "tools": TOOLS},
    "call_result_map": {"messages": [*CALLED[:3], result("call00004", "get_weather", {"sky": ["é", 1.0]})],
                        "tools": TOOLS},
    "call_arguments_text": {"messages": [*ASKED, assistant("", tool_calls=[STRINGS]),
                                         result("call00003", "get_weather", "sunny")], "tools": TOOLS},
    "calls": {"messages": PARALLEL, "tools": TOOLS},
    "call_reasoning": {"messages": [*ASKED, assistant("", reasoning_content="I must look.",
                                                      tool_calls=[SIMPLE]),
                                    result("call00004", "get_weather", "sunny")], "tools": TOOLS},
    "reasoning": {"messages": THINKING},
    "reasoning_last": {"messages": THINKING[:2]},
    "reasoning_parts": {"messages": [user("1+1?"), assistant([{"type": "thinking", "thinking": "Two.",
                                     "text": "Two."}, *text("2")]), user("2+2?")]},
    "reasoning_other_key": {"messages": [user("1+1?"), assistant("2", thinking="Two.", reasoning="Two."),
                                         user("2+2?")]},
    "reasoning_tags": {"messages": WITH_TAGS},
    "thinking_on": {"messages": TALK, "chat_template_kwargs": {
        "enable_thinking": True, "thinking": True, "reasoning_effort": "high"}},
    "thinking_off": {"messages": TALK, "chat_template_kwargs": {
        "enable_thinking": False, "thinking": False, "reasoning_effort": "low"}},
    "thinking_none": {"messages": ASKED, "chat_template_kwargs": {"reasoning_effort": "none"}},
    "documents": {"messages": ASKED, "documents": [{"title": "A", "text": "One é.", "doc_id": 1},
                                                   {"title": "B", "text": "Two.", "doc_id": 2}]},
}
