// Engines on servers: the package's own API behind HTTP, and servers that fail.
import assert from "node:assert/strict";
import { createServer, type IncomingHttpHeaders, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { Readable } from "node:stream";
import { test, type TestContext } from "node:test";
import type { Engine } from "../src/engine-types.js";
import {
  AbortedError,
  ContextLengthError,
  InvalidRequestError,
  ModelNotFoundError,
  NetworkError,
} from "../src/errors.js";
import { createRemoteEngine } from "../src/remote.js";
import { eventData } from "../src/sse.js";
import { engineWith } from "./fake-worker.js";
import type { Script } from "./fakes.js";

const messages = [{ role: "user" as const, content: "Hi" }];

/** A server; resolves to its address. */
async function serve(context: TestContext, listener: RequestListener): Promise<string> {
  const server = createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  context.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`;
}

/**
 * An engine whose server is another engine, and the headers and bodies that the server got. It has no
 * addresses that match `missing`.
 */
async function remote(context: TestContext, script: Script = {}, missing = /^$/) {
  const { engine: local } = await engineWith(script);
  const seen: { path: string; headers: IncomingHttpHeaders; body: Record<string, unknown> }[] = [];
  const baseURL = await serve(context, (request, response) => {
    void (async () => {
      const parts: Buffer[] = [];
      for await (const part of request) parts.push(part as Buffer);
      const body = Buffer.concat(parts).toString();
      const { url = "", method = "GET", headers } = request;
      seen.push({ path: url, headers, body: JSON.parse(body || "{}") as Record<string, unknown> });
      if (missing.test(url)) {
        response.writeHead(404).end();
        return;
      }
      const controller = new AbortController();
      response.on("close", () => controller.abort());
      const init = { method, ...(body && { body }), signal: controller.signal };
      const answer = await local.fetch(`http://nomoat${url}`, init);
      response.writeHead(answer.status, { "content-type": answer.headers.get("content-type") ?? "" });
      if (answer.body)
        Readable.fromWeb(answer.body as never)
          .on("error", () => undefined)
          .pipe(response);
      else response.end();
    })();
  });
  const engine = await createRemoteEngine({ baseURL, apiKey: "secret" });
  return { engine, local, seen };
}

async function textOf(engine: Engine): Promise<string> {
  let text = "";
  for await (const chunk of await engine.chat.completions.create({ messages, stream: true }))
    text += chunk.choices[0]?.delta.content ?? "";
  return text;
}

test("a remote engine answers as the one behind it", async (context) => {
  const { engine, local, seen } = await remote(context);
  assert.equal(engine.model.name, "Fake");
  assert.equal(engine.device.backend, "remote");
  assert.match(engine.device.why, /127\.0\.0\.1:\d+: what you write is sent there/);
  const whole = await engine.chat.completions.create({ messages, model: "another" });
  assert.equal(whole.choices[0]?.message.content, "Hello world!");
  assert.equal(await textOf(engine), "Hello world!");
  const completion = await engine.completions.create({ prompt: "a", echo: true });
  assert.equal(completion.choices[0]?.text, "aHello world!");
  let streamed = "";
  for await (const piece of await engine.completions.create({ prompt: "a", stream: true }))
    streamed += piece.choices[0]?.text ?? "";
  assert.equal(streamed, "Hello world!");
  const types = [];
  for await (const event of await engine.responses.create({ input: "a", stream: true }))
    types.push(event.type);
  assert.deepEqual([types[0], types.at(-1)], ["response.created", "response.completed"]);
  const { data } = await engine.embeddings.create({ input: "ab" });
  assert.deepEqual(data[0]?.embedding, [97, 98]);
  assert.deepEqual(await engine.models.list(), await local.models.list());
  assert.ok(seen.every(({ headers }) => headers.authorization === "Bearer secret"));
  assert.ok(seen.every(({ path, body }) => path.startsWith("/v1/models") || body["model"] === "Fake"));
});

test("its fetch goes to the server, with the server's key", async (context) => {
  const { engine, seen } = await remote(context);
  const body = JSON.stringify({ messages, model: "any" });
  const headers = { authorization: "Bearer mine" };
  const response = await engine.fetch("http://nomoat/v1/chat/completions", { method: "POST", body, headers });
  assert.equal((await response.json()).choices[0].message.content, "Hello world!");
  const last = seen.at(-1);
  assert.deepEqual([last?.path, last?.headers.authorization], ["/v1/chat/completions", "Bearer secret"]);
  // A page's engine takes JSON without a type, too, and any name of a model.
  assert.deepEqual([last?.headers["content-type"], last?.body["model"]], ["application/json", "Fake"]);
  await engine.dispose();
  await assert.rejects(engine.fetch("http://nomoat/v1/models"), { name: "AbortError" });
});

test("a server's counts may lack their details", async (context) => {
  const counts = { prompt_tokens: 1, completion_tokens: 2, total_tokens: 3 };
  const message = { role: "assistant", content: "Hi" };
  const chat = { choices: [{ index: 0, message, finish_reason: "stop" }], usage: counts };
  const baseURL = await serve(context, ({ url }, response) => {
    response.writeHead(url === "/v1/responses" ? 404 : 200, { "content-type": "application/json" });
    response.end(JSON.stringify(url === "/v1/models" ? { data: [{ id: "m" }] } : chat));
  });
  const engine = await createRemoteEngine({ baseURL });
  assert.deepEqual((await engine.responses.create({ input: "a" })).usage, {
    input_tokens: 1,
    input_tokens_details: { cached_tokens: 0 },
    output_tokens: 2,
    output_tokens_details: { reasoning_tokens: 0 },
    total_tokens: 3,
  });
});

test("a server without responses gets chats for them", async (context) => {
  const { engine, seen } = await remote(context, {}, /^\/v1\/responses/);
  const whole = await engine.responses.create({ input: "a", instructions: "b" });
  const [item] = whole.output;
  assert.equal(item?.type === "message" && item.content[0]?.text, "Hello world!");
  assert.deepEqual(seen.at(-1)?.body["messages"], [
    { role: "system", content: "b" },
    { role: "user", content: "a" },
  ]);
  const types = [];
  for await (const event of await engine.responses.create({ input: "a", stream: true }))
    types.push(event.type);
  assert.deepEqual([types[0], types.at(-1)], ["response.created", "response.completed"]);
  // The server was asked for them once.
  assert.deepEqual(
    seen.slice(1).map(({ path }) => path),
    ["/v1/responses", "/v1/chat/completions", "/v1/chat/completions"],
  );
  const init = { method: "POST", body: JSON.stringify({ input: "a" }) };
  const response = await engine.fetch("http://nomoat/v1/responses", init);
  assert.equal((await response.json()).output[0].content[0].text, "Hello world!");
  await assert.rejects(engine.responses.create({ input: 1 as never }), { param: "input" });
});

test("an abort reaches the server, and what a server lacks is refused", async (context) => {
  let cancelled = () => {};
  const isCancelled = new Promise<void>((resolve) => (cancelled = resolve));
  const tokens = Array<string>(1000).fill("x");
  const onNext = () => new Promise<void>((resolve) => setTimeout(resolve, 1));
  const { engine } = await remote(context, { tokens, onNext, onCancel: cancelled });
  let chunks = 0;
  for await (const _ of await engine.chat.completions.create({ messages, stream: true }))
    if (++chunks === 4) break;
  await isCancelled;
  const signal = AbortSignal.abort();
  await assert.rejects(engine.chat.completions.create({ messages }, { signal }), AbortedError);
  const adapters = [{ name: "a", scale: 1 }];
  await assert.rejects(engine.chat.completions.create({ messages, adapters }), { param: "adapters" });
  for (const refused of [engine.tokenize("a"), engine.score([1]), engine.adapters.unload("a")])
    await assert.rejects(refused, InvalidRequestError);
  await engine.dispose();
  await assert.rejects(engine.chat.completions.create({ messages }), AbortedError);
});

test("a server's errors have the package's classes", async (context) => {
  let [status, text] = [200, JSON.stringify({ data: [{ id: "m" }] })];
  const baseURL = await serve(context, (_, response) => {
    response.writeHead(status, { "content-type": "application/json" });
    response.end(text);
  });
  const engine = await createRemoteEngine({ baseURL });
  const ask = () => engine.chat.completions.create({ messages });
  const error = (code: string, param: string | null = null) =>
    JSON.stringify({ error: { message: "It is wrong.", type: "t", param, code } });
  for (const [nextStatus, nextText, expected] of [
    [400, error("invalid_request", "top_p"), InvalidRequestError],
    [400, error("context_length_exceeded"), ContextLengthError],
    [401, error("invalid_api_key"), ModelNotFoundError],
    [404, "<h1>Not here</h1>", ModelNotFoundError],
    [429, error("rate_limit"), NetworkError],
    [500, "", NetworkError],
    [200, "<h1>Hello</h1>", NetworkError],
    [500, "null", NetworkError],
  ] as const) {
    [status, text] = [nextStatus, nextText];
    await assert.rejects(ask(), expected, nextText);
  }
  [status, text] = [400, error("invalid_request", "top_p")];
  await assert.rejects(ask(), { param: "top_p", message: "It is wrong." });
  // As llama.cpp, vLLM and FastAPI write them.
  for (const [nextStatus, nextText, expected] of [
    [400, '{"error":{"code":400,"type":"exceed_context_size_error","message":"Long."}}', /^ContextL.*: Long/],
    [400, '{"object":"error","message":"The maximum context length is 9 tokens.","code":400}', /^ContextL/],
    [401, '{"error":"Unauthorized"}', /^ModelNotFoundError: Unauthorized$/],
    [422, '{"detail":"No messages."}', /^InvalidRequestError: No messages\.$/],
    [422, '{"detail":[{"loc":["body"]}]}', /^InvalidRequestError: .*status 422/],
    [400, error("template"), /^NomoatError: It is wrong/],
  ] as const) {
    [status, text] = [nextStatus, nextText];
    await assert.rejects(ask(), expected, nextText);
  }
});

test("streams that fail", async (context) => {
  let [type, text] = ["application/json", JSON.stringify({ data: [{ id: "m" }] })];
  const baseURL = await serve(context, (_, response) => {
    response.writeHead(200, { "content-type": type });
    response.end(text);
  });
  const engine = await createRemoteEngine({ baseURL });
  await assert.rejects(textOf(engine), /^NetworkError: .*is not a stream of events/);
  type = "text/event-stream; charset=utf-8";
  const piece = 'data: {"choices":[{"delta":{"content":"a"},"finish_reason":null}]}\n\n';
  text = `${piece}data: {"error":{"message":"It is wrong.","code":500}}\n\n`;
  await assert.rejects(textOf(engine), /^NetworkError: It is wrong\.$/);
  text = piece;
  await assert.rejects(textOf(engine), /^NetworkError: .*its answer was cut/);
  text = `${piece}data: {"choices":[{"delta":{},"finish_reason":"stop"}],"error":null}\n\n`;
  assert.equal(await textOf(engine), "a");
  text = `${piece}data: [DONE]\n\n`;
  assert.equal(await textOf(engine), "a");
});

test("a server that is not there, is slow, has no list or another address", async (context) => {
  const nowhere = "http://127.0.0.1:1/v1";
  await assert.rejects(createRemoteEngine({ baseURL: nowhere, model: "m" }), NetworkError);
  for (const baseURL of ["", "nowhere", "file:///v1"])
    await assert.rejects(createRemoteEngine({ baseURL }), { param: "baseURL" });
  const slow = await serve(context, () => undefined);
  const signal = AbortSignal.timeout(20);
  await assert.rejects(
    createRemoteEngine({ baseURL: slow, signal }),
    /^NetworkError: .*did not answer in time/,
  );
  for (const text of ["{}", "null", '{"data":[{"id":1}]}']) {
    const strange = await serve(context, (_, response) => response.end(text));
    await assert.rejects(createRemoteEngine({ baseURL: strange, model: "m" }), /not a list of models/);
  }
  const baseURL = await serve(context, (_, response) => response.writeHead(404).end());
  assert.equal((await createRemoteEngine({ baseURL, model: "m" })).model.name, "m");
  await assert.rejects(createRemoteEngine({ baseURL }), ModelNotFoundError);
});

test("events are found however they are cut", async () => {
  const text = 'event: a\r\ndata: {"é": 1}\r\n\r\n: ping\n\ndata:x\ndata: y\n\ndata: cut';
  const bytes = new TextEncoder().encode(text);
  for (let size = 1; size < 9; size++) {
    const pieces = new ReadableStream<Uint8Array>({
      start(controller) {
        for (let at = 0; at < bytes.length; at += size) controller.enqueue(bytes.slice(at, at + size));
        controller.close();
      },
    });
    const found = [];
    for await (const data of eventData(new Response(pieces))) found.push(data);
    assert.deepEqual(found, ['{"é": 1}', "x\ny"]);
  }
});
