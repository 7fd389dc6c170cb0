// The golden responses, which `nomoat serve` is checked against too: what a request becomes, and its events.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { responsesOf } from "../src/api/responses.js";
import type { ModelResponse, ResponseCreateParams } from "../src/api/response-types.js";
import { CompletionBuilder } from "../src/chat-builder.js";
import type { ChatCompletionCreateParams, ChatCompletions } from "../src/chat.js";
import { NomoatError } from "../src/errors.js";
import type { RuntimeCallDelta, RuntimeEnd } from "../src/runtime.js";

/** What the runtime says at a time. */
interface Piece {
  text?: string;
  reasoning?: string;
  calls?: RuntimeCallDelta[];
}

interface Case {
  name: string;
  request: ResponseCreateParams;
  /** The chat that it becomes. */
  chat: ChatCompletionCreateParams;
  pieces: Piece[];
  /** The end: `counts` are the tokens of the prompt, the answer, those cached, and those of thoughts. */
  end?: Piece & { finish_reason: RuntimeEnd["finish_reason"]; counts: [number, number, number, number] };
  /** Or why there is none. */
  fails?: { code: string; message: string };
  /** In their order; `begun` and `ended` stand for the response at that time. */
  events: Record<string, unknown>[];
  response: ModelResponse;
  /** The order of the items of a response in one piece, if it is another one. */
  whole?: string[];
}

const golden = (name: string): unknown =>
  JSON.parse(readFileSync(new URL(`../../../../tests/golden/responses/${name}`, import.meta.url), "utf8"));

/** Replaces ids by their kind and number, and times by 0. Each event has at most one new id of a kind. */
function normal(value: unknown): unknown {
  const known = new Map<unknown, string>();
  const counts = new Map<string, number>();
  const named = (id: unknown, kind: string) => {
    if (!known.has(id)) {
      const count = counts.get(kind) ?? 0;
      counts.set(kind, count + 1);
      known.set(id, `${kind}_${count}`);
    }
    return known.get(id);
  };
  const walk = (inner: unknown, key = ""): unknown => {
    if (key === "created_at") return Math.min(0, inner as number);
    const [, kind] = /^(resp|msg|rs|fc)_[0-9a-f]{24}$/.exec(String(inner)) ?? [];
    if (kind && (key === "id" || key === "item_id")) return named(inner, kind);
    if (key === "call_id" && /^[0-9a-f]{9}$/.test(String(inner))) return named(inner, "call");
    if (Array.isArray(inner)) return inner.map((item) => walk(item));
    if (typeof inner !== "object" || inner === null) return inner;
    return Object.fromEntries(Object.entries(inner).map(([name, member]) => [name, walk(member, name)]));
  };
  return walk(value);
}

/** Chats that answer with a case's pieces, and the parameters that they get. */
function chats({ pieces, end, fails }: Case) {
  const asked: unknown[] = [];
  const text = (name: "text" | "reasoning") =>
    [...pieces, ...(end ? [end] : [])].map((piece) => piece[name] ?? "").join("");
  const [prompt_tokens, completion_tokens, cached_tokens, reasoning_tokens] = end?.counts ?? [0, 0, 0, 0];
  const last: RuntimeEnd = {
    type: "end",
    text: end?.text ?? "",
    ...(end?.reasoning && { reasoning: end.reasoning }),
    finish_reason: end?.finish_reason ?? "stop",
    context_full: false,
    usage: {
      prompt_tokens,
      completion_tokens,
      total_tokens: prompt_tokens + completion_tokens,
      cached_tokens,
      reasoning_tokens,
      drafted_tokens: 0,
      accepted_tokens: 0,
    },
    timings: { prefill_ms: 1, decode_ms: 1, dispatches_per_token: 1 },
  };
  const builder = new CompletionBuilder("m", { usage: true, ids: false });
  const failure = fails && new NomoatError(fails.code, fails.message);
  async function* chunks() {
    yield builder.first({ sequence: 1, prompt_tokens, omitted_messages: 0 });
    for (const piece of pieces) yield* builder.pieces({ text: "", ...piece });
    if (failure) throw failure;
    yield* builder.last(last);
  }
  const create = async ({ stream, stream_options: _, ...chat }: ChatCompletionCreateParams) => {
    asked.push(chat);
    if (stream) return chunks();
    if (failure) throw failure;
    const calls = pieces.flatMap((piece) => piece.calls ?? []);
    return builder.whole(text("text"), text("reasoning"), calls, last);
  };
  return { completions: { create } as unknown as ChatCompletions, asked };
}

for (const entry of golden("cases.json") as Case[])
  test(`responses: ${entry.name}`, async () => {
    const { request, chat, fails, response, whole } = entry;
    const { completions, asked } = chats(entry);
    const { create } = responsesOf("m", completions);
    const begun = { status: "in_progress", error: null, incomplete_details: null, output: [], usage: null };
    const times = { begun: { ...response, ...begun }, ended: response };
    const events: unknown[] = [];
    for await (const event of await create({ ...request, stream: true })) events.push(event);
    const expected = entry.events.map((event, sequence_number) => ({
      ...event,
      sequence_number,
      ...("response" in event && { response: times[event["response"] as "begun"] }),
    }));
    assert.deepEqual(normal(events), expected);
    if (fails) await assert.rejects(create(request), fails);
    else {
      const { output, ...rest } = normal(await create(request)) as ModelResponse;
      const { output: items, ...others } = response;
      assert.deepEqual(rest, others);
      const inOrder = whole && [...new Set(whole)];
      const sorted = inOrder?.flatMap((kind) => items.filter(({ type }) => type === kind)) ?? items;
      assert.deepEqual(output, sorted);
    }
    assert.deepEqual(asked, [chat, chat]);
  });
