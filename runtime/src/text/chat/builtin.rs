//! Templates by name, for models from before templates.

/// ChatML, as OpenAI described it and many models were trained with.
pub const CHATML: &str = "{% for message in messages %}\
    {{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}\
    {% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// Names and templates.
pub const TEMPLATES: &[(&str, &str)] = &[
    ("chatml", CHATML),
    // Stanford Alpaca's train.py. It knows one turn; more follow in the same way.
    (
        "alpaca",
        "{% if messages[0].role == 'system' %}{{ messages[0].content }}{% else %}\
        {{ 'Below is an instruction that describes a task. ' \
        ~ 'Write a response that appropriately completes the request.' }}{% endif %}\
        {% for message in messages %}{% if message.role == 'user' %}\
        {{ '\n\n### Instruction:\n' + message.content }}{% elif message.role == 'assistant' %}\
        {{ '\n\n### Response:' + message.content + eos_token }}{% endif %}{% endfor %}\
        {% if add_generation_prompt %}{{ '\n\n### Response:' }}{% endif %}",
    ),
    // FastChat's vicuna_v1.1.
    (
        "vicuna",
        "{% if messages[0].role == 'system' %}{{ messages[0].content + ' ' }}{% else %}\
        {{ 'A chat between a curious user and an artificial intelligence assistant. ' \
        ~ \"The assistant gives helpful, detailed, and polite answers to the user's questions. \" }}\
        {% endif %}\
        {% for message in messages %}{% if message.role == 'user' %}\
        {{ 'USER: ' + message.content + ' ' }}{% elif message.role == 'assistant' %}\
        {{ 'ASSISTANT: ' + message.content + eos_token }}{% endif %}{% endfor %}\
        {% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}",
    ),
    // FastChat's koala_v1. A system text comes where its own fixed text is.
    (
        "koala",
        "{% if messages[0].role == 'system' %}{{ messages[0].content + ' ' }}{% else %}\
        {{ 'BEGINNING OF CONVERSATION: ' }}{% endif %}\
        {% for message in messages %}{% if message.role == 'user' %}\
        {{ 'USER: ' + message.content + ' ' }}{% elif message.role == 'assistant' %}\
        {{ 'GPT: ' + message.content + eos_token }}{% endif %}{% endfor %}\
        {% if add_generation_prompt %}{{ 'GPT:' }}{% endif %}",
    ),
    // The cards of Open Assistant's models.
    (
        "open-assistant",
        "{% for message in messages %}{% if message.role == 'user' %}\
        {{ '<|prompter|>' + message.content + eos_token }}{% elif message.role == 'assistant' %}\
        {{ '<|assistant|>' + message.content + eos_token }}{% else %}\
        {{ '<|system|>' + message.content + eos_token }}{% endif %}{% endfor %}\
        {% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}",
    ),
    // GPT4All's first Python bindings.
    (
        "gpt4all-j",
        "{{ '### Instruction:\n ' }}{% if messages[0].role == 'system' %}{{ messages[0].content }}{% else %}\
        {{ 'The prompt below is a question to answer, a task to complete, or a conversation to respond to; ' \
        ~ 'decide which and write an appropriate response.' }}{% endif %}\
        {% for message in messages %}{% if message.role == 'user' %}\
        {{ '\n### Prompt: ' + message.content }}{% elif message.role == 'assistant' %}\
        {{ '\n### Response: ' + message.content }}{% endif %}{% endfor %}\
        {% if add_generation_prompt %}{{ '\n### Response:' }}{% endif %}",
    ),
    // The texts one after the other, for base models.
    ("plain", "{{ messages | map(attribute='content') | join('\n') }}"),
];
