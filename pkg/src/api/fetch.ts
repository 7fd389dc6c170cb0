/**
 * A `fetch` whose server is the engine: the addresses under `/v1/` of OpenAI's API, for clients that take a
 * `fetch` of their own. Nothing leaves the page.
 */
import type { ChatCompletionCreateParams, ChatCompletions } from "../chat.js";
import { AbortedError, ContextLengthError, InvalidRequestError } from "../errors.js";
import type { TextCompletionCreateParams, TextCompletions } from "./completions.js";
import type { EmbeddingCreateParams, Embeddings } from "./embeddings.js";
import { ApiError, toApiError } from "./errors.js";
import type { Models } from "./models.js";
import type { ResponseCreateParams, Responses } from "./response-types.js";

/** What OpenAI's API says is too long, by address. */
const PROMPTS = new Map([
  ["/chat/completions", "messages"],
  ["/responses", "input"],
]);

/** What the addresses lead to. */
export interface Endpoints {
  readonly chat: { readonly completions: ChatCompletions };
  readonly completions: TextCompletions;
  readonly responses: Responses;
  readonly embeddings: Embeddings;
  readonly models: Models;
}

/**
 * A `fetch` for `/v1/models`, `/v1/chat/completions`, `/v1/completions`, `/v1/responses` and `/v1/embeddings`
 * of any origin.
 */
export function apiFetch(engine: Endpoints): typeof fetch {
  return async (input, init) => {
    const request = new Request(input, init);
    const { signal } = request;
    signal.throwIfAborted();
    try {
      return await answer(engine, request);
    } catch (error) {
      signal.throwIfAborted();
      const { status, body } = toApiError(error);
      if (error instanceof ContextLengthError) body.error.param = PROMPTS.get(pathOf(request)) ?? null;
      return json(body, status);
    }
  };
}

/** The address after `/v1`. */
function pathOf({ url }: Request): string {
  return new URL(url).pathname.replace(/^.*?\/v1\//, "/");
}

async function answer(engine: Endpoints, request: Request): Promise<Response> {
  const path = pathOf(request);
  const [, model] = /^\/models\/(.+)$/.exec(path) ?? [];
  switch (model === undefined ? path : "/models/{model}") {
    case "/models":
      method(request, "GET");
      return json(await engine.models.list());
    case "/models/{model}":
      method(request, "GET");
      return json(await engine.models.retrieve(decodeURIComponent(model ?? "")));
    case "/chat/completions": {
      const params = (await body(request)) as ChatCompletionCreateParams;
      const result = await engine.chat.completions.create(params, { signal: request.signal });
      return Symbol.asyncIterator in result ? events(dataOnly(result)) : json(result);
    }
    case "/completions": {
      const params = (await body(request)) as TextCompletionCreateParams;
      const result = await engine.completions.create(params, { signal: request.signal });
      return Symbol.asyncIterator in result ? events(dataOnly(result)) : json(result);
    }
    case "/embeddings": {
      const params = (await body(request)) as EmbeddingCreateParams;
      return json(await engine.embeddings.create(params, { signal: request.signal }));
    }
    case "/responses": {
      const params = (await body(request)) as ResponseCreateParams;
      const result = await engine.responses.create(params, { signal: request.signal });
      return Symbol.asyncIterator in result ? events(named(result)) : json(result);
    }
    default:
      throw new ApiError(404, "unknown_url", `There is no ${request.method} ${path} here.`);
  }
}

function method(request: Request, expected: string): void {
  if (request.method !== expected)
    throw new ApiError(405, "method_not_allowed", `Use ${expected} instead of ${request.method}.`);
}

/** The JSON of a POST. What it holds is checked where it is used. */
async function body(request: Request): Promise<unknown> {
  method(request, "POST");
  try {
    return (await request.json()) as unknown;
  } catch (error) {
    if (request.signal.aborted) throw new AbortedError();
    throw new InvalidRequestError(`The request's body is not JSON: ${(error as Error).message}`);
  }
}

function json(value: object, status = 200): Response {
  return new Response(JSON.stringify(value), { status, headers: { "content-type": "application/json" } });
}

/** Chunks as server-sent events without names, and `[DONE]` at the end. */
async function* dataOnly(chunks: AsyncIterable<object>): AsyncGenerator<string> {
  try {
    for await (const chunk of chunks) yield `data: ${JSON.stringify(chunk)}\n\n`;
    yield "data: [DONE]\n\n";
  } catch (error) {
    if (error instanceof AbortedError) throw error;
    yield `data: ${JSON.stringify(toApiError(error).body)}\n\n`;
  }
}

/** Events with their type as name. */
async function* named(list: AsyncIterable<{ type: string }>): AsyncGenerator<string> {
  for await (const event of list) yield `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`;
}

/** A response that sends the texts as they come. Cancelling it stops the generation. */
function events(texts: AsyncGenerator<string>): Response {
  const encoder = new TextEncoder();
  const stream = new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        const { done, value } = await texts.next();
        if (done) controller.close();
        else controller.enqueue(encoder.encode(value));
      } catch (error) {
        // The client's signal fired: `fetch` would fail with the same error.
        const aborted = error instanceof AbortedError;
        controller.error(aborted ? new DOMException(error.message, "AbortError") : error);
      }
    },
    async cancel() {
      await texts.return(undefined);
    },
  });
  const headers = { "content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache" };
  return new Response(stream, { headers });
}
