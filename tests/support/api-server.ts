/** A server with OpenAI's API that repeats what it is told, and fails on demand. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** The body of a request for a chat. */
interface ChatBody {
  model: string;
  messages: { role: string; content: string }[];
  stream?: boolean;
  [name: string]: unknown;
}

/** A request that came. */
export interface Asked {
  path: string;
  key: string | undefined;
  body: ChatBody | null;
}

/** How it fails. */
export interface Faults {
  /** Web pages may not ask. */
  closed?: boolean;
  /** Addresses under `/v1` that are answered with this status. */
  status?: Record<string, number>;
  /** The list of models is a web page. */
  isWebPage?: boolean;
  /** `max_tokens` is refused, as by OpenAI's newer models. */
  newName?: boolean;
  /** Most messages of a chat. */
  most?: number;
  /** Answers end without an end. */
  cuts?: boolean;
}

export class ApiServer {
  readonly asked: Asked[] = [];
  faults: Faults = {};
  readonly #server: Server;
  readonly #key: string;
  readonly #models: readonly string[];

  private constructor(key: string, models: readonly string[]) {
    this.#key = key;
    this.#models = models;
    this.#server = createServer((request, response) => void this.#answer(request, response));
  }

  static async start(key: string, models: readonly string[]): Promise<ApiServer> {
    const server = new ApiServer(key, models);
    await new Promise<void>((resolve) => server.#server.listen(0, "127.0.0.1", resolve));
    return server;
  }

  get host(): string {
    return `localhost:${(this.#server.address() as AddressInfo).port}`;
  }

  /** The bodies of the chats so far. */
  get chats(): ChatBody[] {
    return this.asked.flatMap(({ body }) => body ?? []);
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { faults } = this;
    const { origin = "", authorization } = request.headers;
    const cors = { "Access-Control-Allow-Origin": origin };
    if (request.method === "OPTIONS") {
      const headers = { ...cors, "Access-Control-Allow-Headers": "authorization, content-type" };
      response.writeHead(204, faults.closed ? {} : headers).end();
      return;
    }
    const parts: Buffer[] = [];
    for await (const part of request) parts.push(part as Buffer);
    const text = Buffer.concat(parts).toString();
    const path = request.url ?? "";
    const body = text === "" ? null : (JSON.parse(text) as ChatBody);
    this.asked.push({ path, key: authorization?.replace("Bearer ", ""), body });
    const head = (status: number, type = "application/json") =>
      response.writeHead(status, { "Content-Type": type, ...(faults.closed ? {} : cors) });
    const fail = (status: number, code: string, param: string | null = null) => {
      head(status);
      response.end(JSON.stringify({ error: { message: `It is ${code}.`, type: "t", param, code } }));
    };
    const status = faults.status?.[path.replace(/^\/v1/, "")];
    if (status !== undefined) fail(status, "made_to_fail");
    else if (this.#key !== "" && authorization !== `Bearer ${this.#key}`) fail(401, "invalid_api_key");
    else if (path === "/v1/models") {
      head(200, faults.isWebPage ? "text/html" : undefined);
      const data = this.#models.map((id) => ({ id, object: "model" }));
      response.end(faults.isWebPage ? "<h1>Hello</h1>" : JSON.stringify({ object: "list", data }));
    } else if (path !== "/v1/chat/completions" || body === null) fail(404, "unknown_url");
    else if (!this.#models.includes(body.model)) fail(404, "model_not_found");
    else if (faults.newName && "max_tokens" in body) fail(400, "unsupported_parameter", "max_tokens");
    else if (body.messages.length > (faults.most ?? Infinity)) fail(400, "context_length_exceeded");
    else {
      head(200, "text/event-stream");
      const send = (event: object) => response.write(`data: ${JSON.stringify(event)}\n\n`);
      const choice = (delta: object, finish_reason: string | null) =>
        send({ choices: [{ index: 0, delta, finish_reason }] });
      const said = `${body.model} was told: ${body.messages.at(-1)?.content ?? ""}`;
      for (const piece of said.match(/\S+\s*/g) ?? []) choice({ content: piece }, null);
      if (!faults.cuts) {
        choice({}, "stop");
        send({ choices: [], usage: { prompt_tokens: 5, completion_tokens: 7, total_tokens: 12 } });
        response.write("data: [DONE]\n\n");
      }
      response.end();
    }
  }
}
